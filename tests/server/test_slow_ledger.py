"""A ledger that is slow: nobody waits for it past the caller's deadline, and what it does later is accounted for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.server.fakes import ScriptedProvider, events_of, make_settings, until
from tests.server.fakes_gateway import Rig, running

from flatfee.server import patience
from flatfee.server.store.memory import MemoryStore
from flatfee.server.store.records import Outcome, Reservation, Settlement, Ticket
from flatfee.server.store.transactions import Admission

SOON = {"x-flatfee-deadline-ms": "50"}


class SlowStore(MemoryStore):
    """A memory store that waits for ``go_on`` before the operation named ``slow``, and does it then."""

    def __init__(self, slow: str) -> None:
        super().__init__()
        self.slow = slow
        self.go_on = asyncio.Event()
        self.done: list[str] = []

    async def _wait(self, operation: str) -> None:
        if operation == self.slow:
            await self.go_on.wait()

    async def reserve(self, want: Reservation) -> Admission:
        await self._wait("reserve")
        try:
            return await super().reserve(want)
        finally:
            self.done.append("reserve")

    async def dispatch(self, ticket: Ticket) -> None:
        await self._wait("dispatch")
        await super().dispatch(ticket)
        self.done.append("dispatch")

    async def settle(self, ticket: Ticket, outcome: Outcome) -> Settlement:
        await self._wait("settle")
        try:
            return await super().settle(ticket, outcome)
        finally:
            self.done.append("settle")


async def usage_later(rig: Rig, store: SlowStore, done: list[str]) -> Any:
    """Let the ledger go on, and return the account's use once it has done what it had still to do."""
    store.go_on.set()
    await until(lambda: store.done == done)
    return await rig.usage()


async def test_an_admission_that_comes_too_late_is_given_back() -> None:
    store, provider = SlowStore("reserve"), ScriptedProvider()
    async with running(provider=provider, store=store) as rig:
        response = await rig.ask(SOON)
        assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline_exceeded")
        usage = await usage_later(rig, store, ["reserve", "settle"])
    assert (usage["fair_use"]["used"], usage["fair_use"]["pending"], usage["workflows"]["active"]) == (0, 0, 0)
    assert provider.asked == []


async def test_a_refusal_that_comes_too_late_needs_nothing_given_back() -> None:
    store = SlowStore("reserve")
    async with running(make_settings(fair_use=1, continuation=False), store=store) as rig:
        assert (await rig.ask(SOON)).status_code == 504
        usage = await usage_later(rig, store, ["reserve"])
    assert usage["fair_use"]["pending"] == 0


async def test_no_provider_is_asked_when_the_mark_of_a_dispatch_comes_too_late() -> None:
    store, provider = SlowStore("dispatch"), ScriptedProvider()
    async with running(provider=provider, store=store) as rig:
        response = await rig.ask(SOON)
        assert response.json()["error"]["code"] == "deadline_exceeded"
        assert provider.asked == []
        assert (await rig.usage())["fair_use"]["pending"] == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_is_not_held_back_by_its_settlement_past_the_deadline(
    stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was bought and is given, with an honest receipt; the ledger notes the true figures when it can."""
    monkeypatch.setattr(patience, "GRACE", 0.01)
    store = SlowStore("settle")
    async with running(store=store) as rig:
        response = await rig.ask(SOON, stream=stream)
        assert response.status_code == 200
        told = events_of(response.content)[-2]["flatfee"] if stream else response.json()["flatfee"]
        assert told["state"] == "estimated"
        usage = await usage_later(rig, store, ["reserve", "dispatch", "settle"])
        assert (usage["fair_use"]["used"], usage["fair_use"]["pending"]) == (10 + 4 * 5, 0)
        assert (await rig.receipt(response))["state"] == "settled"


async def test_without_a_deadline_the_ledger_is_waited_for() -> None:
    store = SlowStore("settle")
    async with running(store=store) as rig:
        asking = asyncio.create_task(rig.ask())
        await until(lambda: "dispatch" in store.done)
        assert not asking.done()
        store.go_on.set()
        assert (await asking).json()["flatfee"]["state"] == "settled"
