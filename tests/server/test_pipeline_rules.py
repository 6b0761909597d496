"""What rules ask that no request tells: how much of fair-use is left, and what time it is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.server.fakes import FailingStore, make_settings
from tests.server.fakes_gateway import running

from flatfee.server.store.memory import MemoryStore
from flatfee.server.store.records import Usage
from flatfee.server.windows import Calendar

THRIFT = {"name": "thrift", "when": {"fair_use_left_under": 0.5}, "tier": "economy", "reason": "small_task"}


class Watched(MemoryStore):
    """Counts how often an account's usage is read."""

    reads = 0

    async def usage(self, account: str, unit: str, calendar: Calendar) -> Usage:
        self.reads += 1
        return await super().usage(account, unit, calendar)


async def test_a_rule_for_what_is_left_decides_by_the_ledger_at_that_moment() -> None:
    settings = make_settings(policy={"rules": [THRIFT]}, meter="requests", fair_use=4)
    async with running(settings) as rig:
        lanes = [(await rig.ask(model="auto")).headers["x-flatfee-lane"] for _ in range(5)]
    # Two of four are used, and half is not less than half.
    assert lanes == ["premium", "premium", "premium", "budget", "budget"]


async def test_usage_is_read_only_for_auto_and_only_if_a_rule_asks_for_it() -> None:
    store = Watched()
    async with running(make_settings(policy={"rules": [THRIFT]}), store=store) as rig:
        await rig.ask(model="premium")
        assert store.reads == 0
        await rig.ask(model="auto")
        assert store.reads == 1
    store = Watched()
    async with running(store=store) as rig:
        await rig.ask(model="auto")
    assert store.reads == 0


@pytest.mark.parametrize(("fair_use", "lane"), [(0, "continuation"), (1_000_000, "premium")])
async def test_of_a_plan_without_fair_use_nothing_is_left(fair_use: int, lane: str) -> None:
    async with running(make_settings(policy={"rules": [THRIFT]}, fair_use=fair_use)) as rig:
        answer = await rig.ask(model="auto")
    assert answer.headers["x-flatfee-lane"] == lane


async def test_a_dry_run_says_how_much_was_left() -> None:
    async with running(make_settings(policy={"rules": [THRIFT]})) as rig:
        body: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "x"}]}
        told = (await rig.client.post("/v1/route", json=body)).json()
    assert told["rules"][0] == {
        "rule": "thrift",
        "matched": False,
        "because": "1.000 of fair-use is left, not under 0.5",
    }


async def test_without_the_ledger_a_rule_is_not_guessed_at() -> None:
    store = FailingStore("usage")
    async with running(make_settings(policy={"rules": [THRIFT]}), store=store) as rig:
        answer = await rig.ask(model="auto")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
        assert (await rig.ask(model="premium")).status_code == 200
        assert rig.provider.routes == ["first"]


async def test_rules_go_by_the_stores_clock_and_the_policys_timezone() -> None:
    night = {"when": {"hours": ["22:00-06:00"]}, "tier": "economy", "reason": "small_task"}
    wall = [datetime(2026, 7, 1, 20, 30, tzinfo=UTC).timestamp()]
    store = MemoryStore(clock=lambda: wall[0])
    settings = make_settings(policy={"rules": [night], "timezone": "Europe/Berlin"})
    async with running(settings, store=store) as rig:
        assert (await rig.ask(model="auto")).headers["x-flatfee-lane"] == "budget"
        wall[0] = datetime(2026, 12, 1, 20, 30, tzinfo=UTC).timestamp()
        assert (await rig.ask(model="auto")).headers["x-flatfee-lane"] == "premium"
