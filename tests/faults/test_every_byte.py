"""A streamed answer that is cut at any of its bytes: gone on with beside a healthy route, and alone never whole."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager

import pytest
from tests.faults.callers import CALLERS, Ask, Heard, heard_by
from tests.faults.scenario import FIRST, OTHER, settings_with, to
from tests.faults.speech import STREAM, TEXT, events, head, streamed
from tests.faults.steps import Ending, Pause, Seen, Step
from tests.faults.upstream import FaultyUpstream
from tests.server.fakes import KEY
from tests.server.fakes_gateway import on_loopback

from flatfee.server.health import Health

pytestmark = pytest.mark.faults
RESPONSES = {
    "in chunks": b"".join(streamed(events())),
    "until the end": b"".join([head(200, "connection: close", kind=STREAM), *events()]),
}
"""How the end of the body is told. Without chunks, a cut is a clean end to whoever reads the bytes."""
EVERY = 17
"""Bytes between two cuts: a prime, so that they fall anywhere in events and chunks."""
AT_ONCE = 8


def cuts(response: bytes) -> range:
    return range(0, len(response), EVERY)


def finished(response: bytes) -> int:
    """Return where the finish reason has been said, but for the end of its event and chunk."""
    return response.index(b'"stop"') + len(b'"stop"')


class Forgiving(Health):
    """Health that leaves no route alone, as every request shall meet its own cut."""

    def admits(self, route: str, now: float) -> int | None:
        return 0

    def down(self, now: float) -> frozenset[str]:
        return frozenset()


def cut(response: bytes, ending: Ending, seen: Seen) -> Iterable[Step]:
    """Answer as far as the question says."""
    yield response[: int(seen.body["messages"][0]["content"])]
    yield Pause(0.02)
    yield ending


@asynccontextmanager
async def gateway(response: bytes, ending: Ending, *beside: str) -> AsyncGenerator[str]:
    async with FaultyUpstream() as upstream:
        upstream.plays(FIRST, then=lambda seen: cut(response, ending, seen))
        upstream.plays(OTHER)
        routes = [to(name, priority=number) for number, name in enumerate((FIRST, *beside))]
        settings = settings_with(upstream, *routes, concurrent_workflows=100, fair_use=10_000_000)
        async with on_loopback(settings) as served:
            served.app.gateway.health = Forgiving()
            served.app.gateway.chance = lambda: 0.0
            yield f"http://127.0.0.1:{served.port}/v1"


async def heard_at_each(url: str, places: Sequence[int]) -> dict[int, Heard]:
    bound = asyncio.Semaphore(AT_ONCE)

    async def one(at: int) -> Heard:
        body = {"model": "premium", "messages": [{"role": "user", "content": str(at)}], "stream": True}
        async with bound:
            heard = await heard_by(CALLERS["raw"], Ask(url=url, key=KEY, body=body))
        assert heard is not None, f"hangs when cut at {at}"
        return heard

    return dict(zip(places, await asyncio.gather(*map(one, places)), strict=True))


@pytest.mark.parametrize("ending", [Ending.FIN, Ending.RESET])
@pytest.mark.parametrize("told", RESPONSES)
async def test_beside_a_healthy_route_the_answer_is_whole_wherever_it_was_cut(told: str, ending: Ending) -> None:
    response = RESPONSES[told]
    async with gateway(response, ending, OTHER) as url:
        for at, heard in (await heard_at_each(url, cuts(response))).items():
            assert (heard.whole, heard.texts, heard.finishes) == (True, {0: TEXT}, {0: "stop"}), f"cut at {at}"
            assert (heard.odd, heard.cut, len(heard.ids)) == ([], False, 1), f"cut at {at}"
            assert heard.roles <= 1, f"cut at {at}"


@pytest.mark.parametrize("ending", [Ending.FIN, Ending.RESET])
@pytest.mark.parametrize("told", RESPONSES)
async def test_alone_it_is_whole_only_if_it_was_cut_after_its_finish_reason(told: str, ending: Ending) -> None:
    response = RESPONSES[told]
    async with gateway(response, ending) as url:
        for at, heard in (await heard_at_each(url, cuts(response))).items():
            assert (heard.odd, heard.cut) == ([], False), f"cut at {at}"
            if heard.whole:
                assert at >= finished(response), f"cut at {at}"
                assert (heard.texts, heard.finishes) == ({0: TEXT}, {0: "stop"}), f"cut at {at}"
            else:
                assert heard.code == "provider_unavailable", f"cut at {at}"
                assert not heard.done, f"cut at {at}"
                assert TEXT.startswith(heard.texts.get(0, "")), f"cut at {at}"
                assert (heard.receipt or {})["fair_use"].get("charged", 0) == 0, json.dumps(heard.receipt)
