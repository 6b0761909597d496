"""An answer that breaks off half-way: another route goes on with it, or it ends with an error. Never two in one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from tests.server.fakes import (
    DONE,
    Piece,
    Reply,
    ScriptedProvider,
    Silence,
    delta,
    error,
    event,
    events_of,
    make_settings,
    outcomes,
    plain,
    route,
    silent,
    streamed,
    unreachable,
    usage_event,
)
from tests.server.fakes_gateway import Rig, running

from flatfee.server.providers.base import ProviderFailure
from flatfee.wire import AttemptOutcome

BROKEN = ProviderFailure(AttemptOutcome.ERROR, "broke off")
WORDS = "The quick brown fox jumps over the lazy dog. Then it sleeps under a tree until the evening."


MADE = {"c1": 1, "c2": 2}


def said(text: str, *, id_: str = "c1", finish: str | None = None, **extra: Any) -> bytes:
    one = {"index": 0, "delta": {"content": text, **extra}, "finish_reason": finish}
    return event({"id": id_, "created": MADE[id_], "model": f"model-of-{id_}", "choices": [one]})


def role(id_: str) -> bytes:
    one = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
    return event({"id": id_, "created": MADE[id_], "choices": [one]})


def in_pieces(text: str, size: int, id_: str) -> list[bytes]:
    return [said(text[at : at + size], id_=id_) for at in range(0, len(text), size)]


def begun(text: str = WORDS[:30], ends: Piece = BROKEN) -> Reply:
    """The first route's answer, which breaks off after ``text``."""
    return streamed(role("c1"), *in_pieces(text, 7, "c1"), ends)


def answered(text: str = WORDS, size: int = 11) -> Reply:
    """A whole answer of another route."""
    return streamed(
        role("c2"), *in_pieces(text, size, "c2"), said("", id_="c2", finish="stop"), usage_event(20, 30), DONE
    )


def text_of(events: Sequence[Any]) -> str:
    choices = [choice for one in events if one != "[DONE]" for choice in one.get("choices", [])]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def settings(*, prefill: bool = False, others: int = 1, **options: Any) -> Any:
    follow = [route(f"next{number or ''}", priority=2 + number, prefill=prefill, **options) for number in range(others)]
    return make_settings(routes=[route("first", priority=1, **options), *follow])


async def ask(rig: Rig, **body: Any) -> tuple[list[Any], dict[str, Any]]:
    response = await rig.ask(stream=True, **body)
    return events_of(response.content), await rig.receipt(response)


@pytest.mark.parametrize("size", [1, 7, 30, 31, 200])
async def test_a_route_that_repeats_the_text_goes_on_with_it(size: int) -> None:
    provider = ScriptedProvider(first=begun(), next=answered(size=size))
    async with running(settings(), provider) as rig:
        events, receipt = await ask(rig)
        usage = await rig.usage()
    assert text_of(events) == WORDS
    assert events[-1] == "[DONE]"
    assert outcomes(receipt) == [("first", "error", 200), ("next", "ok", 200)]
    assert (receipt["lane"], receipt["reason"]) == ("fallback", "provider_error")
    assert (receipt["route"], receipt["model_served"]) == ("next", "next-model")
    assert receipt["usage"] == {"prompt_tokens": 20, "completion_tokens": 30, "cached_tokens": 0}
    assert usage["fair_use"]["used"] == receipt["fair_use"]["charged"] == 20 + 4 * 30
    assert events[-2]["flatfee"] == receipt


async def test_the_joined_answer_is_one_answer_to_a_caller() -> None:
    provider = ScriptedProvider(first=begun(), next=answered())
    async with running(settings(), provider) as rig:
        events, _ = await ask(rig)
    answer = [one for one in events if one != "[DONE]"]
    assert {one["id"] for one in answer} == {"c1"}
    assert {one["created"] for one in answer} == {1}
    assert [one["choices"][0]["delta"].get("role") for one in answer].count("assistant") == 1
    assert [one["choices"][0]["finish_reason"] for one in answer if one["choices"][0]["finish_reason"]] == ["stop"]
    assert "model-of-c2" in {one.get("model") for one in answer}, "who said the rest is told, not hidden"


HALVES: dict[str, tuple[Piece, ...]] = {
    "cut": (BROKEN,),
    "no finish reason": (),
    "done without finish reason": (DONE,),
    "an error event": (event({"error": {"message": "canary-overloaded"}}),),
    "silence": (Silence.FOR_EVER,),
    "comments only": (b": still here\n\n" * 3, Silence.FOR_EVER),
    "events that say nothing": (*[said("")] * 3, Silence.FOR_EVER),
    "broken events": (b"data: {\n\n" * 4,),
}


@pytest.mark.parametrize("kind", HALVES)
async def test_however_it_broke_off_the_next_route_goes_on(kind: str) -> None:
    provider = ScriptedProvider(first=streamed(said(WORDS[:30]), *HALVES[kind]), next=answered())
    async with running(settings(idle_timeout=0.05), provider) as rig:
        events, receipt = await ask(rig)
    assert (text_of(events), events[-1]) == (WORDS, "[DONE]")
    assert "overloaded" not in str(events)
    assert receipt["route"] == "next"
    assert provider.routes == ["first", "next"], "a route that failed half-way is not asked again"


async def test_another_answer_is_never_stitched_on() -> None:
    other = WORDS[:29] + "X" + WORDS[30:]
    provider = ScriptedProvider(first=begun(), next=answered(other))
    async with running(settings(), provider) as rig:
        events, receipt = await ask(rig)
        usage = await rig.usage()
    assert text_of(events[:-1]) == WORDS[:30]
    assert events[-1]["error"]["code"] == "provider_unavailable"
    assert events[-1]["flatfee"] == receipt
    assert outcomes(receipt) == [("first", "error", 200), ("next", "diverged", 200)]
    assert (receipt["route"], receipt["fair_use"]["charged"]) == ("first", 0)
    assert (usage["fair_use"]["used"], usage["fair_use"]["pending"]) == (0, 0)
    assert provider.left == 2


async def test_a_shorter_answer_is_another_answer() -> None:
    provider = ScriptedProvider(first=begun(), next=answered(WORDS[:20]))
    async with running(settings(), provider) as rig:
        events, receipt = await ask(rig)
    assert text_of(events[:-1]) == WORDS[:30]
    assert "error" in events[-1]
    assert outcomes(receipt)[-1] == ("next", "diverged", 200)


async def test_an_answer_that_says_the_same_and_no_more_is_whole() -> None:
    provider = ScriptedProvider(first=begun(WORDS), next=answered(WORDS))
    async with running(settings(), provider) as rig:
        events, receipt = await ask(rig)
    assert (text_of(events), events[-1], receipt["route"]) == (WORDS, "[DONE]", "next")


async def test_a_prefilled_route_is_given_the_text_and_goes_on() -> None:
    provider = ScriptedProvider(first=begun(), next=answered(WORDS[30:]))
    async with running(settings(prefill=True), provider) as rig:
        events, receipt = await ask(rig, max_completion_tokens=50, max_tokens=3)
    assert (text_of(events), events[-1], receipt["route"]) == (WORDS, "[DONE]", "next")
    _, first = provider.asked[0]
    _, then = provider.asked[1]
    assert then["messages"] == [*first["messages"], {"role": "assistant", "content": WORDS[:30]}]
    assert (then["max_completion_tokens"], then["max_tokens"]) == (50 - 8, 1)
    assert (first["max_completion_tokens"], first["max_tokens"]) == (50, 3)


async def test_a_prefilled_route_that_repeats_a_long_text_is_not_heard_twice() -> None:
    provider = ScriptedProvider(first=begun(WORDS[:50]), next=answered(WORDS))
    async with running(settings(prefill=True), provider) as rig:
        events, _ = await ask(rig)
    assert text_of(events) == WORDS


@pytest.mark.parametrize("rest", [WORDS[:20] + "!", "The", WORDS[:49]])
async def test_a_prefilled_route_may_begin_as_the_text_does(rest: str) -> None:
    provider = ScriptedProvider(first=begun(WORDS[:50]), next=answered(rest, size=3))
    async with running(settings(prefill=True), provider) as rig:
        events, _ = await ask(rig)
    assert text_of(events) == WORDS[:50] + rest


FORMS: dict[str, dict[str, Any]] = {
    "a schema": {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}},
    "a JSON object": {"response_format": {"type": "json_object"}},
    "a beginning of the caller's own": {
        "messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "Well,"}]
    },
}


@pytest.mark.parametrize("kind", FORMS)
async def test_what_cannot_be_prefilled_is_started_over(kind: str) -> None:
    provider = ScriptedProvider(first=begun(), next=answered())
    async with running(settings(prefill=True), provider) as rig:
        events, _ = await ask(rig, **FORMS[kind])
    assert text_of(events) == WORDS
    assert provider.asked[1][1]["messages"] == provider.asked[0][1]["messages"]


async def test_a_text_format_can_be_prefilled() -> None:
    provider = ScriptedProvider(first=begun(), next=answered(WORDS[30:]))
    async with running(settings(prefill=True), provider) as rig:
        events, _ = await ask(rig, response_format={"type": "text"})
    assert text_of(events) == WORDS


CALL: dict[str, Any] = {"tool_calls": [{"index": 0, "id": "call_1", "function": {"name": "f", "arguments": '{"a'}}]}
BEYOND_TEXT: dict[str, tuple[bytes, ...]] = {
    "a tool call": (event({"id": "c1", "choices": [{"index": 0, "delta": CALL}]}),),
    "text and a tool call": (said(WORDS[:10]), said("", **CALL)),
    "a function call": (said("", function_call={"name": "f", "arguments": "{"}),),
    "thoughts": (said("", reasoning_content="Let me see."),),
    "a refusal": (said("", refusal="I can"),),
    "something new": (said("", sketch={"lines": [1]}),),
    "parts": (event({"id": "c1", "choices": [{"index": 0, "delta": {"content": [{"type": "text", "text": "a"}]}}]}),),
    "a second choice": (said(WORDS[:10]), delta("a", index=1)),
    "half a character": (b'data: {"id":"c1","choices":[{"index":0,"delta":{"content":"a\\ud83d"}}]}\n\n',),
}


@pytest.mark.parametrize("prefill", [False, True], ids=["over again", "prefilled"])
@pytest.mark.parametrize("kind", BEYOND_TEXT)
async def test_nobody_goes_on_with_what_is_more_than_text(kind: str, prefill: bool) -> None:
    pieces = BEYOND_TEXT[kind]
    provider = ScriptedProvider(first=streamed(*pieces, BROKEN), next=streamed(*pieces, said("", finish="stop"), DONE))
    async with running(settings(prefill=prefill), provider) as rig:
        events, receipt = await ask(rig)
    assert provider.routes == ["first"]
    assert events[-1]["error"]["code"] == "provider_unavailable"
    assert "[DONE]" not in events
    assert (len(events), receipt["fair_use"]["charged"]) == (len(pieces) + 1, 0)


@pytest.mark.parametrize("body", [{"n": 2}, {"logprobs": True}], ids=["two choices", "figures for each token"])
async def test_nobody_goes_on_where_more_than_one_text_was_asked_for(body: dict[str, Any]) -> None:
    provider = ScriptedProvider(first=begun(), next=answered())
    async with running(settings(), provider) as rig:
        events, _ = await ask(rig, **body)
    assert provider.routes == ["first"]
    assert "error" in events[-1]


async def test_a_tool_call_in_place_of_the_text_is_another_answer() -> None:
    over = streamed(role("c2"), said(WORDS[:10], id_="c2"), said("", id_="c2", finish="tool_calls", **CALL), DONE)
    provider = ScriptedProvider(first=begun(), next=over)
    async with running(settings(), provider) as rig:
        events, receipt = await ask(rig)
    assert "error" in events[-1]
    assert outcomes(receipt)[-1][1] == "diverged"


async def test_a_tool_call_behind_the_text_is_passed_on() -> None:
    over = streamed(*in_pieces(WORDS[:30], 4, "c2"), said("", id_="c2", finish="tool_calls", **CALL), DONE)
    provider = ScriptedProvider(first=begun(), next=over)
    async with running(settings(), provider) as rig:
        events, _ = await ask(rig)
    assert events[-1] == "[DONE]"
    assert events[-2]["choices"][0]["delta"] == CALL
    assert text_of(events) == WORDS[:30]


async def test_thoughts_before_a_repeated_text_are_left_out() -> None:
    thoughts = [said("", id_="c2", reasoning_content="Again?"), said("", id_="c2", reasoning="Yes.")]
    provider = ScriptedProvider(
        first=begun(), next=streamed(*thoughts, *in_pieces(WORDS, 9, "c2"), said("", id_="c2", finish="stop"), DONE)
    )
    async with running(settings(), provider) as rig:
        events, _ = await ask(rig)
    assert text_of(events) == WORDS
    assert "Again" not in str(events)
    assert "Yes" not in str(events)


FAILING: dict[str, tuple[Reply, tuple[str, int | None]]] = {
    "unreachable": (unreachable(), ("unavailable", None)),
    "refusing": (error(400, "bad_schema"), ("refused", 400)),
    "too small": (error(400, "context_length_exceeded"), ("context_overflow", 400)),
    "limited": (error(429, retry_after="60"), ("rate_limited", 429)),
    "silent": (silent(), ("timeout", None)),
}


@pytest.mark.parametrize("kind", FAILING)
async def test_a_next_route_that_fails_too_is_left_for_one_after_it(kind: str) -> None:
    reply, (outcome, status) = FAILING[kind]
    provider = ScriptedProvider(first=begun(), next=reply, next1=answered())
    async with running(settings(others=2, first_token_timeout=0.1), provider) as rig:
        events, receipt = await ask(rig)
    assert (text_of(events), events[-1]) == (WORDS, "[DONE]")
    assert outcomes(receipt)[1][1:] == (outcome, status)
    assert receipt["route"] == "next1"


@pytest.mark.parametrize("kind", FAILING)
async def test_where_no_route_goes_on_there_is_one_error_event(kind: str) -> None:
    reply, (outcome, status) = FAILING[kind]
    provider = ScriptedProvider(first=begun(), next=reply)
    async with running(settings(first_token_timeout=0.1), provider) as rig:
        events, receipt = await ask(rig)
    assert [("error" in one) for one in events] == [False] * (len(events) - 1) + [True]
    assert events[-1]["error"]["code"] == "provider_unavailable"
    assert outcomes(receipt)[-1] == ("next", outcome, status)
    assert (receipt["route"], receipt["fair_use"]["charged"]) == ("first", 0)


@pytest.mark.parametrize("prefill", [False, True], ids=["over again", "prefilled"])
async def test_an_answer_may_break_off_twice(prefill: bool) -> None:
    second = WORDS[30:60] if prefill else WORDS[:60]
    third = WORDS[60:] if prefill else WORDS
    provider = ScriptedProvider(
        first=begun(), next=streamed(role("c2"), *in_pieces(second, 8, "c2"), BROKEN), next1=answered(third)
    )
    async with running(settings(others=2, prefill=prefill), provider) as rig:
        events, receipt = await ask(rig)
    assert (text_of(events), events[-1]) == (WORDS, "[DONE]")
    assert [tried[1] for tried in outcomes(receipt)] == ["error", "error", "ok"]


async def test_a_route_that_breaks_off_while_it_repeats_leaves_the_text_as_it_was() -> None:
    provider = ScriptedProvider(first=begun(), next=begun(WORDS[:12]), next1=answered())
    async with running(settings(others=2), provider) as rig:
        events, receipt = await ask(rig)
    assert text_of(events) == WORDS
    assert [tried[1] for tried in outcomes(receipt)] == ["error", "error", "ok"]


async def test_a_next_route_may_answer_a_plain_completion() -> None:
    provider = ScriptedProvider(first=begun(), next=plain(WORDS))
    async with running(settings(), provider) as rig:
        events, receipt = await ask(rig)
    assert (text_of(events), events[-1], receipt["state"]) == (WORDS, "[DONE]", "settled")


async def test_the_deadline_holds_for_who_goes_on() -> None:
    provider = ScriptedProvider(first=begun(), next=silent())
    async with running(settings(first_token_timeout=60.0), provider) as rig:
        response = await rig.ask({"x-flatfee-deadline-ms": "300"}, stream=True)
        events, receipt = events_of(response.content), await rig.receipt(response)
    assert text_of(events[:-1]) == WORDS[:30]
    assert events[-1]["error"]["code"] == "deadline_exceeded"
    assert outcomes(receipt) == [("first", "error", 200), ("next", "cancelled", None)]


async def test_usage_that_the_caller_asked_for_comes_once_and_is_of_who_finished() -> None:
    provider = ScriptedProvider(
        first=streamed(role("c1"), said(WORDS[:30]), usage_event(1, 1), BROKEN), next=answered()
    )
    async with running(settings(), provider) as rig:
        events, receipt = await ask(rig, stream_options={"include_usage": True})
    assert events[-2]["usage"] == {"prompt_tokens": 20, "completion_tokens": 30}
    assert events[-2]["id"] == "c1"
    assert receipt["usage"]["completion_tokens"] == 30


ERROR = event({"error": {"message": "canary-overloaded"}})


async def test_what_came_with_the_error_reaches_the_caller_before_another_goes_on() -> None:
    first = streamed(said(WORDS[:10]), said(WORDS[10:30]) + ERROR)
    async with running(settings(), ScriptedProvider(first=first, next=answered())) as rig:
        events, _ = await ask(rig)
    assert (text_of(events), events[-1]) == (WORDS, "[DONE]")


async def test_a_beginning_that_came_with_the_error_is_not_gone_on_with() -> None:
    first = streamed(role("c1") + said("Another beginning") + ERROR)
    async with running(settings(), ScriptedProvider(first=first, next=answered())) as rig:
        response = await rig.ask(stream=True)
    assert text_of(events_of(response.content)) == WORDS
    assert response.headers["x-flatfee-route"] == "next"


async def test_an_error_that_came_with_the_whole_answer_does_not_spoil_it() -> None:
    first = streamed(said(WORDS) + said("", finish="stop") + ERROR)
    async with running(settings(), ScriptedProvider(first=first)) as rig:
        events, receipt = await ask(rig)
    assert (text_of(events), events[-1]) == (WORDS, "[DONE]")
    assert outcomes(receipt) == [("first", "ok", 200)]


async def test_what_diverges_behind_the_joint_in_the_same_bytes_is_cut_there() -> None:
    """The joint is past, so it cannot diverge any more; an error behind it can still come."""
    over = streamed(said(WORDS[:40], id_="c2") + ERROR)
    provider = ScriptedProvider(first=begun(), next=over, next1=answered())
    async with running(settings(others=2), provider) as rig:
        events, receipt = await ask(rig)
    assert (text_of(events), events[-1]) == (WORDS, "[DONE]")
    assert [tried[1] for tried in outcomes(receipt)] == ["error", "error", "error", "ok"]


@pytest.mark.parametrize("prefill", [False, True], ids=["over again", "prefilled"])
async def test_a_last_event_without_its_blank_line_reaches_the_caller_before_another_goes_on(prefill: bool) -> None:
    rest = WORDS[30:] if prefill else WORDS
    first = streamed(said(WORDS[:10]), said(WORDS[10:30]).rstrip())
    async with running(settings(prefill=prefill), ScriptedProvider(first=first, next=answered(rest))) as rig:
        events, receipt = await ask(rig)
    assert (text_of(events), events[-1]) == (WORDS, "[DONE]")
    assert outcomes(receipt)[0] == ("first", "error", 200)


async def test_a_joined_answer_whose_last_event_has_no_blank_line_is_gone_on_with_from_there() -> None:
    second = streamed(said(WORDS[:40], id_="c2"), said(WORDS[40:55], id_="c2").rstrip())
    provider = ScriptedProvider(first=begun(), next=second, next1=answered())
    async with running(settings(others=2), provider) as rig:
        events, _ = await ask(rig)
    assert (text_of(events), events[-1]) == (WORDS, "[DONE]")


async def test_a_stray_second_choice_is_not_gone_on_with() -> None:
    stray = event({"id": "c1", "choices": [{"index": 1, "delta": {}}]})
    first = streamed(said(WORDS[:10]), said(WORDS[10:30], finish="stop") + stray, BROKEN)
    async with running(settings(), ScriptedProvider(first=first, next=answered())) as rig:
        events, receipt = await ask(rig)
    assert "error" in events[-1]
    assert receipt["fair_use"]["charged"] == 0


async def test_line_ends_within_an_events_data_stay_within_it() -> None:
    lines = b'data: {"id":"c2","choices":[\ndata: {"index":0,"delta":\ndata: {"content":"%b"}}]}\n\n'
    second = streamed(lines % WORDS[:40].encode(), lines % WORDS[40:].encode(), said("", id_="c2", finish="stop"), DONE)
    async with running(settings(), ScriptedProvider(first=begun(), next=second)) as rig:
        response = await rig.ask(stream=True)
    assert text_of(events_of(response.content)) == WORDS
    assert all(line.startswith(b"data: ") for line in response.content.split(b"\n") if line)
