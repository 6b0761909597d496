"""A text that was cut is gone on with by who says the same, however it says it, and by nobody else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.faults.callers import CALLERS, Ask, Heard, heard_by
from tests.faults.catalogue.answers import halves
from tests.faults.catalogue.midway import BEGUN
from tests.faults.scenario import settings_with, to
from tests.faults.speech import (
    DONE,
    HALF,
    LAST_CHUNK,
    ROLE,
    STOP,
    STREAM_HEAD,
    TEXT,
    THOUGHT,
    USAGE,
    chunk,
    chunked,
    completion,
    delta,
    event,
    pieces,
    sized,
    streamed,
    tool_events,
)
from tests.faults.steps import Ending, Pause, Script, Seen, Step
from tests.faults.upstream import FaultyUpstream
from tests.server.fakes import KEY, LIMIT, until
from tests.server.fakes_gateway import on_loopback, request

pytestmark = pytest.mark.faults
ENDS = [STOP, USAGE, DONE]


@asynccontextmanager
async def asked(*models: str | Script, **options: Any) -> AsyncGenerator[tuple[Heard, FaultyUpstream]]:
    """Ask a gateway whose routes play these, in their order, over a socket; ``options`` are the last route's."""
    names = [f"route-{number}" for number in range(len(models))]
    async with FaultyUpstream() as upstream:
        for name, model in zip(names, models, strict=True):
            upstream.plays(name, then=model)
        routes = [to(name, priority=number) for number, name in enumerate(names)]
        routes[-1] |= options
        async with on_loopback(settings_with(upstream, *routes)) as served:
            body = {"model": "premium", "messages": [{"role": "user", "content": "Go on."}], "stream": True}
            url = f"http://127.0.0.1:{served.port}/v1"
            heard = await heard_by(CALLERS["raw"], Ask(url=url, key=KEY, body=body))
            assert heard is not None
            assert heard.odd == []
            assert not heard.cut
            yield heard, upstream


def outcomes(heard: Heard) -> list[str]:
    return [each["outcome"] for each in (heard.receipt or {})["attempts"]]


def says(parts: Sequence[bytes]) -> Script:
    return lambda _: streamed(parts)


def cut_after(parts: Sequence[bytes]) -> Script:
    return lambda _: [STREAM_HEAD, *chunked(parts), Pause(0.1), Ending.FIN]


def escaped(payload: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(payload, ensure_ascii=True).encode() + b"\n\n"


SAME: dict[str, list[bytes]] = {
    "in one piece": [ROLE, event(delta({"content": TEXT})), *ENDS],
    "a character at a time": [ROLE, *(event(delta({"content": sign})) for sign in TEXT), *ENDS],
    "with escapes": [ROLE, *(escaped(delta({"content": piece})) for piece in pieces()), *ENDS],
    "without a role": [*(event(delta({"content": piece})) for piece in pieces()), *ENDS],
    "with the role in every event": [event(delta({"role": "assistant", "content": piece})) for piece in pieces()]
    + ENDS,
    "with empty events": [ROLE, *(p for piece in pieces() for p in (event(delta({"content": piece})), ROLE)), *ENDS],
    "with nulls": [ROLE, *(event(delta({"content": piece, "tool_calls": None})) for piece in pieces()), *ENDS],
    "with its finish in the last piece": [ROLE, event(delta({"content": TEXT}, "stop")), USAGE, DONE],
}


@pytest.mark.parametrize("how", SAME)
async def test_the_same_text_is_gone_on_with_however_it_is_cut(how: str) -> None:
    async with asked("cut-midway", says(SAME[how])) as (heard, _):
        assert heard.whole, heard.code
        assert heard.texts == {0: TEXT}
        assert heard.finishes == {0: "stop"}
        assert len(heard.ids) == 1
        assert outcomes(heard) == ["error", "ok"]


OTHER: dict[str, list[bytes]] = {
    "one letter is another": [ROLE, event(delta({"content": TEXT.replace("quick", "quack")})), *ENDS],
    "one letter is of another case": [ROLE, event(delta({"content": TEXT.replace("Z", "z", 1)})), *ENDS],
    "it begins with a space": [ROLE, event(delta({"content": f" {TEXT}"})), *ENDS],
    "its letters are composed otherwise": [ROLE, event(delta({"content": TEXT.replace("ü", "u\u0308")})), *ENDS],
    "it is shorter than what was delivered": [ROLE, event(delta({"content": HALF[:-3]})), *ENDS],
    "its characters come in halves, which nobody puts together": [ROLE, *halves(), *ENDS],
    "it is empty": [ROLE, *ENDS],
    "it calls a tool": [*tool_events(), event(delta({}, "tool_calls")), USAGE, DONE],
    "it calls a tool half-way": [*BEGUN[:2], *tool_events(), event(delta({}, "tool_calls")), USAGE, DONE],
}


@pytest.mark.parametrize("how", OTHER)
async def test_another_answer_is_never_put_behind_what_was_delivered(how: str) -> None:
    async with asked("cut-midway", says(OTHER[how])) as (heard, _):
        assert not heard.whole
        assert heard.code in {"provider_unavailable", "fallback_exhausted"}
        assert heard.done is False
        assert heard.texts == {0: HALF}
        assert heard.tools == {}
        assert heard.finishes == {}
        assert outcomes(heard) == ["error", "diverged"]
        assert (heard.receipt or {})["fair_use"].get("charged", 0) == 0


async def test_who_says_the_same_is_found_behind_who_does_not() -> None:
    async with asked("cut-midway", "healthy-otherwise", "http-401", "healthy") as (heard, _):
        assert heard.whole
        assert heard.texts == {0: TEXT}
        assert outcomes(heard) == ["error", "diverged", "error", "ok"]
        assert heard.receipt is not None
        assert heard.receipt["model_served"] == "route-3"


async def test_a_text_is_cut_twice_and_gone_on_with_twice() -> None:
    later = cut_after([ROLE, *(event(delta({"content": piece})) for piece in pieces()[:-2])])
    async with asked("cut-midway", later, "healthy") as (heard, _):
        assert heard.whole
        assert heard.texts == {0: TEXT}
        assert outcomes(heard) == ["error", "error", "ok"]


async def test_a_route_that_is_cut_before_it_has_caught_up_adds_nothing() -> None:
    sooner = cut_after(BEGUN[:2])
    async with asked("cut-midway", sooner, "healthy") as (heard, _):
        assert heard.whole
        assert heard.texts == {0: TEXT}
        assert outcomes(heard) == ["error", "error", "ok"]


async def test_a_text_that_was_cut_twice_is_continued_from_all_of_it() -> None:
    later = pieces()[:-2]
    twice = cut_after([ROLE, *(event(delta({"content": piece})) for piece in later)])
    async with asked("cut-midway", twice, "healthy", prefill=True) as (heard, upstream):
        assert heard.texts == {0: TEXT}
        last = upstream.of("route-2")[0].body["messages"][-1]
        assert last == {"role": "assistant", "content": "".join(later)}


async def test_reasoning_that_comes_before_the_same_text_does_not_disturb_it() -> None:
    thinking = event(delta({"reasoning_content": THOUGHT}))
    async with asked("cut-midway", says([ROLE, thinking, *SAME["in one piece"][1:]])) as (heard, _):
        assert heard.texts == {0: HALF} or heard.texts == {0: TEXT}
        assert heard.whole is (heard.texts == {0: TEXT})


async def test_a_plain_answer_of_the_same_text_is_gone_on_with() -> None:
    async with asked("cut-midway", lambda _: [sized(completion())]) as (heard, _):
        assert heard.whole
        assert heard.texts == {0: TEXT}


async def test_an_answer_that_repeats_for_ever_what_was_delivered_is_left() -> None:
    def slowly(_: Seen) -> Iterable[Step]:
        yield STREAM_HEAD
        yield chunk(ROLE)
        while True:
            yield chunk(event(delta({"content": ""})))
            yield Pause(0.05)

    async with asked("cut-midway", slowly, first_token_timeout=0.5, idle_timeout=0.5, total_timeout=2.0) as (heard, up):
        assert not heard.whole
        assert outcomes(heard) == ["error", "timeout"]
        await until(up.of("route-1")[0].over.is_set)


async def test_what_a_continuing_route_says_is_heard_at_once() -> None:
    """What is new is not held back until the end."""
    go_on = asyncio.Event()

    def held(_: Seen) -> Iterable[Step]:
        yield STREAM_HEAD
        yield from chunked([ROLE, *(event(delta({"content": piece})) for piece in pieces()[:-1])])
        yield go_on
        yield from chunked([event(delta({"content": pieces()[-1]})), *ENDS])
        yield LAST_CHUNK

    async with FaultyUpstream() as upstream:
        upstream.plays("first", then="cut-midway")
        upstream.plays("second", then=held)
        async with on_loopback(settings_with(upstream, to("first"), to("second", priority=2))) as served:
            reader, _ = await served.open(request(stream=True))
            async with asyncio.timeout(LIMIT):
                await reader.readuntil(pieces()[-2].strip().encode())
                go_on.set()
                assert b"[DONE]" in await reader.read()
