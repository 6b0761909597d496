"""Streams on their way: whole, broken, silent, or cut by the caller's deadline."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.server.fakes import (
    DONE,
    LIMIT,
    STREAM,
    Piece,
    Reply,
    ScriptedAnswer,
    ScriptedProvider,
    Silence,
    delta,
    event,
    events_of,
    make_settings,
    outcomes,
    route,
    streamed,
    usage_event,
)
from tests.server.fakes_gateway import running

from flatfee.server.providers.base import ProviderFailure
from flatfee.server.settings import RouteSettings
from flatfee.server.stages import passing
from flatfee.wire import AttemptOutcome

BROKEN = ProviderFailure(AttemptOutcome.ERROR, "broke off")
QUICK: dict[str, Any] = {"first_token_timeout": 0.05, "idle_timeout": 0.05, "total_timeout": 5.0}


def two(**options: Any) -> list[dict[str, Any]]:
    return [route("first", priority=1, **options), route("second", priority=2, **options)]


async def test_a_deadline_in_mid_stream_charges_what_was_delivered() -> None:
    provider = ScriptedProvider(first=streamed(delta("canary-" * 8), Silence.FOR_EVER))
    async with running(provider=provider) as rig:
        response = await rig.ask({"x-flatfee-deadline-ms": "50"}, stream=True)
        receipt = await rig.receipt(response)
        assert rig.gateway.health.down(rig.gateway.monotonic()) == frozenset()
        usage = await rig.usage()
    last = events_of(response.content)[-1]
    assert last["error"]["code"] == "deadline_exceeded"
    assert last["flatfee"] == receipt
    assert receipt["state"] == "estimated"
    assert receipt["usage"]["completion_tokens"] == 14
    assert usage["fair_use"]["used"] == receipt["fair_use"]["charged"] > 0


MIDWAY: dict[str, tuple[Piece, ...]] = {
    "cut": (delta("canary-"), BROKEN),
    "no finish reason": (delta("canary-"),),
    "done without finish reason": (delta("canary-"), DONE),
    "an error event": (delta("canary-"), event({"error": {"message": "canary-overloaded"}})),
    "silence": (delta("canary-"), Silence.FOR_EVER),
    "broken events": (delta("canary-"), b"data: {\n\n" * 4),
    "one choice of two cut off": (delta("canary-"), delta("a", index=1), delta(finish="stop", index=1), BROKEN),
}


@pytest.mark.parametrize("kind", MIDWAY)
async def test_a_stream_that_breaks_is_one_error_event_without_done_and_free(kind: str) -> None:
    provider = ScriptedProvider(first=streamed(*MIDWAY[kind]))
    async with running(make_settings(routes=[route("first", **QUICK)]), provider) as rig:
        response = await rig.ask(stream=True)
        receipt = await rig.receipt(response)
        usage = await rig.usage()
    events = events_of(response.content)
    assert response.content.startswith(delta("canary-"))
    assert "[DONE]" not in events
    assert [("error" in event) for event in events if event is not events[-1]] == [False] * (len(events) - 1)
    assert events[-1]["error"]["code"] == "provider_unavailable"
    assert events[-1]["flatfee"] == receipt
    assert "overloaded" not in response.text
    assert provider.routes == ["first"]
    assert receipt["fair_use"]["charged"] == 0
    assert [tried["outcome"] for tried in receipt["attempts"]] in (["error"], ["timeout"])
    assert (usage["fair_use"]["used"], usage["fair_use"]["pending"]) == (0, 0)


AFTER_THE_FINISH: dict[str, tuple[Piece, ...]] = {
    "the end": (),
    "done": (DONE,),
    "usage and the end": (usage_event(),),
    "a cut": (BROKEN,),
    "silence": (Silence.FOR_EVER,),
    "a comment and silence": (b": bye\n\n", Silence.FOR_EVER),
    "usage and a cut": (usage_event(), BROKEN),
}


@pytest.mark.parametrize("kind", AFTER_THE_FINISH)
async def test_a_stream_is_whole_with_its_finish_reason_whatever_follows(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passing, "AFTER_FINISH", 0.05)
    provider = ScriptedProvider(first=streamed(*STREAM[:3], *AFTER_THE_FINISH[kind]))
    async with running(provider=provider) as rig:
        response = await rig.ask(stream=True)
        receipt = await rig.receipt(response)
    *_, last, done = events_of(response.content)
    assert done == "[DONE]"
    assert last["flatfee"] == receipt
    told = "usage" in kind
    assert receipt["state"] == ("settled" if told else "estimated")
    assert receipt["usage"]["completion_tokens"] == (5 if told else 4)
    assert outcomes(receipt) == [("first", "ok", 200)]


async def test_one_finished_choice_of_two_does_not_make_a_cut_stream_whole() -> None:
    provider = ScriptedProvider(first=streamed(delta("a"), delta(finish="stop"), BROKEN))
    async with running(provider=provider) as rig:
        response = await rig.ask(stream=True, n=2)
    assert "[DONE]" not in events_of(response.content)


@pytest.mark.parametrize("done", [False, True], ids=["the end", "done"])
async def test_fewer_choices_than_asked_for_are_whole_only_if_the_provider_says_that_it_is_done(done: bool) -> None:
    provider = ScriptedProvider(only=streamed(delta("a"), delta(finish="stop"), *([DONE] if done else [])))
    async with running(make_settings(routes=[route("only")]), provider) as rig:
        response = await rig.ask(stream=True, n=2)
    last = events_of(response.content)[-1]
    assert last == "[DONE]" if done else "error" in last


async def test_choices_one_after_the_other_are_one_stream() -> None:
    pieces = [delta("a"), delta(finish="stop"), delta("b", index=1), delta(finish="stop", index=1), usage_event(), DONE]
    async with running(provider=ScriptedProvider(first=streamed(*pieces))) as rig:
        response = await rig.ask(stream=True, n=2)
    assert response.content.startswith(b"".join(pieces[:3]))
    assert response.content.endswith(DONE)


async def test_comments_do_not_keep_a_silent_stream_alive() -> None:
    """Keep-alives come for ever, a quarter of the idle limit apart: the limit must strike all the same."""

    class Nagging(ScriptedAnswer):
        async def chunks(self) -> Any:
            yield delta("canary-")
            while True:
                await asyncio.sleep(0.01)
                yield b": still here\n\n"

    class Provider(ScriptedProvider):
        def send(self, route: RouteSettings, body: bytes, *, stream: bool) -> Any:
            self.asked.append((route.name, {}))
            return _entered(Nagging(Reply()))

    async with running(make_settings(routes=two(idle_timeout=0.05)), Provider()) as rig, asyncio.timeout(LIMIT):
        response = await rig.ask(stream=True)
    assert events_of(response.content)[-1]["error"]["code"] == "provider_unavailable"
    assert b": still here" in response.content


class _entered:  # noqa: N801 - a context manager, named as one
    def __init__(self, answer: ScriptedAnswer) -> None:
        self._answer = answer

    async def __aenter__(self) -> ScriptedAnswer:
        return self._answer

    async def __aexit__(self, *_: object) -> None:
        return None


async def test_comments_before_the_first_token_go_on_with_it() -> None:
    provider = ScriptedProvider(first=streamed(b": a\n\n", b": b\n\n", *STREAM))
    async with running(provider=provider) as rig:
        response = await rig.ask(stream=True)
    assert response.content.startswith(b": a\n\n: b\n\n" + STREAM[0])


async def test_comments_before_a_failure_are_not_shown() -> None:
    provider = ScriptedProvider(first=streamed(b": a\n\n", BROKEN), second=streamed())
    async with running(provider=provider) as rig:
        response = await rig.ask(stream=True)
    assert response.content.startswith(STREAM[0])
    assert events_of(response.content)[-2]["flatfee"]["route"] == "second"


async def test_an_answer_of_one_event_is_whole() -> None:
    provider = ScriptedProvider(first=streamed(b": x\n\n", delta("a", finish="stop")))
    async with running(provider=provider) as rig:
        response = await rig.ask(stream=True)
    assert response.content.startswith(b": x\n\n")
    last, done = events_of(response.content)
    assert (last["flatfee"]["state"], done) == ("estimated", "[DONE]")


async def test_a_last_event_without_its_blank_line_is_an_answer() -> None:
    provider = ScriptedProvider(first=streamed(delta("a", finish="stop").rstrip()))
    async with running(provider=provider) as rig:
        response = await rig.ask(stream=True)
    assert events_of(response.content)[-1] == "[DONE]"
