"""What a process of the gateway holds and answers by itself."""

from __future__ import annotations

import asyncio

import pytest
from tests.server.fakes import LIMIT, make_settings
from tests.server.fakes_gateway import running

from flatfee.server.faults import Fault
from flatfee.server.gateway import Gateway, calendar_of, terms_of
from flatfee.server.keys import KeyKind
from flatfee.server.settings import PlanSettings
from flatfee.server.store.memory import MemoryStore
from flatfee.server.store.records import Caller
from flatfee.server.windows import Calendar
from flatfee.wire import Billing, ErrorCode, Model

CALLER = Caller(
    key_id="k", kind=KeyKind.PROJECT, account="a", project="p", plan="pro", billing=Billing.ACTIVE, billing_day=1
)


def a_gateway() -> Gateway:
    settings = make_settings(aliases={"gpt-5": "premium", "claude-*": "premium", "claude-haiku-*": "economy"})
    return Gateway(settings=settings, store=MemoryStore(), providers={})


async def test_a_gateway_is_idle_once_the_last_request_has_ended() -> None:
    gateway = a_gateway()
    await gateway.until_idle()
    first, second = gateway.begin(), gateway.begin()
    assert gateway.active == 2
    waiting = asyncio.create_task(gateway.until_idle())
    await asyncio.sleep(0)
    gateway.end(second)
    await asyncio.sleep(0)
    assert not waiting.done()
    gateway.end(first)
    async with asyncio.timeout(LIMIT):
        await waiting
    assert gateway.active == 0


class CrashingStore(MemoryStore):
    """A store that cannot look up a key."""

    async def find_key(self, digest: bytes) -> Caller | None:
        raise ValueError("x")


async def test_a_request_that_crashes_is_counted_out() -> None:
    async with running(store=CrashingStore()) as rig:
        assert (await rig.ask()).status_code == 503
        assert rig.app.gateway.active == 0


def test_names_are_resolved_to_models() -> None:
    gateway = a_gateway()
    assert [gateway.resolve(name) for name in ("auto", "gpt-5")] == [Model.AUTO, Model.PREMIUM]
    with pytest.raises(Fault, match="auto, premium, economy, gpt-5") as caught:
        gateway.resolve("x" * 500)
    assert (caught.value.code, caught.value.param) == (ErrorCode.MODEL_NOT_FOUND, "model")
    assert len(caught.value.message) < 200


def test_the_calendar_is_the_plans_with_the_accounts_billing_day() -> None:
    gateway = a_gateway()
    assert calendar_of(CALLER, gateway.plan_of(CALLER)) == Calendar("month", 1)


@pytest.mark.parametrize(("meter", "unit"), [("tokens", "token"), ("requests", "request")])
def test_terms_are_the_plans(meter: str, unit: str) -> None:
    plan = PlanSettings.model_validate({"name": "p", "fair_use": 7, "meter": meter, "requests_per_minute": 3})
    terms = terms_of(plan)
    assert (terms.unit, terms.fair_use, terms.requests_per_minute) == (unit, 7, 3)
    assert (terms.workflows, terms.fanout, terms.idle) == (4, 16, 120.0)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("claude-sonnet-4-5-20250929", Model.PREMIUM),
        ("claude-haiku-4-5-20251001", Model.ECONOMY),
        ("claude-", Model.PREMIUM),
        ("economy", Model.ECONOMY),
    ],
)
def test_an_alias_that_ends_in_a_star_stands_for_all_names_that_begin_so_and_the_longest_counts(
    name: str, model: Model
) -> None:
    assert a_gateway().resolve(name) is model


def test_a_name_that_stands_there_itself_wins_over_any_beginning() -> None:
    settings = make_settings(aliases={"*": "economy", "gpt-5*": "economy", "gpt-5": "premium"})
    gateway = Gateway(settings=settings, store=MemoryStore(), providers={})
    assert gateway.resolve("gpt-5") is Model.PREMIUM
    assert gateway.resolve("gpt-5.1") is Model.ECONOMY
    assert [gateway.resolve(name) for name in Model] == list(Model)


def test_a_name_that_only_resembles_a_beginning_does_not_exist() -> None:
    with pytest.raises(Fault, match=r"gpt-5, claude-\*, claude-haiku-\*"):
        a_gateway().resolve("Claude-sonnet")


@pytest.mark.parametrize("name", ["claude-" + "x" * 250, "claude-\n", "claude-\x1b[31m"])
def test_no_alias_covers_a_name_that_is_no_models(name: str) -> None:
    gateway = a_gateway()
    assert not gateway.knows(name)
    assert gateway.knows("claude-" + "x" * 249)
    with pytest.raises(Fault) as caught:
        gateway.resolve(name)
    assert caught.value.code is ErrorCode.MODEL_NOT_FOUND
