"""What a real provider said through the gateway is said again without it: texts, calls, usage, errors and times."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.server.fakes import until
from tests.testing.tapes.upstream import KEY, LEAKED, LONGEST, Upstream

import flatfee
from flatfee.testing import ScriptedGateway, UnmatchedRequest, running_gateway
from flatfee.testing.tapes import TapeError, Tapes

TOOLS: list[Any] = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]


def ask(gateway: ScriptedGateway, said: str, **options: Any) -> flatfee.ChatCompletion:
    with gateway.client(max_retries=0) as client:
        answer: flatfee.ChatCompletion = client.chat.completions.create(
            model="premium", messages=[{"role": "user", "content": said}], workflow="run", **options
        )
        return answer


def stream(gateway: ScriptedGateway, said: str) -> tuple[str, Any]:
    with (
        gateway.client(max_retries=0) as client,
        client.chat.completions.stream(model="premium", messages=[{"role": "user", "content": said}]) as events,
    ):
        final = events.get_final_completion()
        return final.choices[0].message.content or "", final.usage


def tool_loop(client: Any) -> list[Any]:
    """Let a client call the tool, plain and streamed, and go on with what it returned; return what it saw."""
    messages: list[Any] = [{"role": "user", "content": "weather?"}]
    asked = {"model": "premium", "tools": TOOLS}
    first = client.chat.completions.create(messages=messages, **asked).choices[0].message
    with client.chat.completions.stream(messages=messages, **asked) as events:
        streamed = events.get_final_completion().choices[0].message
    seen: list[Any] = []
    for message in (first, streamed):
        call = message.tool_calls[0]
        calls = [
            {"id": call.id, "type": "function", "function": call.function.model_dump(include={"name", "arguments"})}
        ]
        result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
        asks = {"role": "assistant", "content": None, "tool_calls": calls}
        last = client.chat.completions.create(messages=[*messages, asks, result], **asked)
        seen += [call.function.name, call.function.arguments, last.choices[0].message.content, last.usage.total_tokens]
    return seen


def failure(gateway: ScriptedGateway, said: str) -> tuple[type, str | None]:
    with pytest.raises(flatfee.APIStatusError) as caught:
        ask(gateway, said)
    return type(caught.value), caught.value.code


def everything(gateway: ScriptedGateway) -> list[Any]:
    """Ask for everything that the provider knows; return what the clients saw."""
    answer = ask(gateway, f"hello, my key is {LEAKED} and {KEY}")
    seen: list[Any] = [answer.choices[0].message.content, answer.usage, stream(gateway, "stream")]
    with (
        gateway.client(max_retries=0) as ours,
        openai.OpenAI(base_url=gateway.base_url, api_key=gateway.api_key, max_retries=0) as theirs,
    ):
        seen += [tool_loop(ours), tool_loop(theirs)]
    return seen


def test_replay_says_what_was_recorded_without_provider_key_or_network(
    upstream: Upstream, tapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_gateway(record=tapes, config=upstream.config) as gateway:
        live = everything(gateway)
    asked = len(upstream.asked)
    monkeypatch.delenv("UP_KEY")
    with running_gateway(replay=tapes, strict=True) as gateway:
        replayed = everything(gateway)
        assert gateway.taping.unplayed == []
    assert live[2][0] == "It is sunny, sk-canary-a1b2c3d4e5f6 bye."
    assert replayed[2] == ("It is sunny, [redacted] bye.", live[2][1])
    assert [*replayed[:2], *replayed[3:]] == [*live[:2], *live[3:]]
    assert len(upstream.asked) == asked


@pytest.mark.slow
def test_replay_fails_as_the_provider_failed(upstream: Upstream, tapes: Path) -> None:
    """Refused, limited, reset before an answer, cut in the middle of one."""
    saids = ("refuse me", "limit me", "reset me")
    with running_gateway(record=tapes, config=upstream.config) as gateway:
        live = [failure(gateway, said) for said in saids[:1]]
        with pytest.raises(flatfee.APIError) as cut:
            stream(gateway, "cut me")
        gateway.advance(60)
        for said in saids[1:]:
            live.append(failure(gateway, said))
            gateway.advance(60)
    with running_gateway(replay=tapes, config=upstream.config, strict=True) as gateway:
        replayed = [failure(gateway, said) for said in saids[:1]]
        with pytest.raises(flatfee.APIError) as cut_again:
            stream(gateway, "cut me")
        gateway.advance(60)
        for said in saids[1:]:
            replayed.append(failure(gateway, said))
            gateway.advance(60)
    assert replayed == live
    assert live[0] == (flatfee.BadRequestError, "bad_thing")
    assert type(cut_again.value) is type(cut.value)
    assert cut_again.value.partial == cut.value.partial


def test_no_secret_reaches_a_tape_a_log_or_an_error(
    upstream: Upstream, tapes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running_gateway(record=tapes, config=upstream.config) as gateway:
        everything(gateway)
        told = str(gateway.taping.recorder and gateway.taping.recorder.problems)
        own = gateway.api_key
    written = "".join(path.read_text("utf-8") + path.name for path in tapes.iterdir())
    for secret in (KEY, LEAKED, own, "canary"):
        assert secret not in written
        assert secret not in caplog.text + told
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tapes.iterdir())


def test_recorded_time_goes_by_on_the_gateways_clock_only(upstream: Upstream, tapes: Path) -> None:
    with running_gateway(record=tapes, config=upstream.config) as gateway:
        stream(gateway, "stream")
    (path,) = tapes.iterdir()
    edited = json.loads(path.read_text("utf-8"))
    for number, event in enumerate(edited["answer"]["events"], 1):
        event["at_ms"] = 5000 * number
    path.write_text(json.dumps(edited), "utf-8")
    began = time.monotonic()
    with running_gateway(replay=Tapes.load(tapes, speed=2.0)) as gateway:
        before = gateway.now
        said, _ = stream(gateway, "stream")
        took = (gateway.now - before).total_seconds()
    assert said.startswith("It is sunny")
    assert took > 15
    assert time.monotonic() - began < took / 2


def test_recorded_time_is_waited_for_where_that_is_asked(upstream: Upstream, tapes: Path) -> None:
    with running_gateway(record=tapes, config=upstream.config) as gateway:
        stream(gateway, "stream")
    began = time.monotonic()
    with running_gateway(replay=Tapes.load(tapes, real=True)) as gateway:
        stream(gateway, "stream")
    last = Tapes.load(tapes).filed[0].tape.answer.last_ms
    assert time.monotonic() - began >= last / 1000


def leave(gateway: ScriptedGateway) -> None:
    """Read the first event of a stream, and leave."""
    with gateway.client(max_retries=0) as client:
        messages = [{"role": "user", "content": "hold me"}]
        events = client.chat.completions.create(model="premium", messages=messages, stream=True)
        next(iter(events))
        events.close()
    gateway.run(until(lambda: gateway.journal[-1].ended is not None))


@pytest.mark.slow
def test_an_answer_that_the_caller_left_is_left_again(
    upstream: Upstream, tapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flatfee.testing.tapes.replay._LEAVING_SECONDS", LONGEST)  # however slow the machine is
    with running_gateway(record=tapes, config=upstream.config) as gateway:
        leave(gateway)
    (filed,) = Tapes.load(tapes).filed
    assert filed.tape.answer.partial
    with running_gateway(replay=tapes, strict=True) as gateway:
        leave(gateway)
        assert gateway.journal[-1].ending == "left"


def test_rules_answer_before_tapes(upstream: Upstream, tapes: Path) -> None:
    with running_gateway(record=tapes, config=upstream.config) as gateway:
        ask(gateway, "hello")
    with running_gateway(replay=tapes) as gateway:
        gateway.script("Scripted.", times=1)
        assert ask(gateway, "hello").choices[0].message.content == "Scripted."
        assert ask(gateway, "hello").choices[0].message.content == "It is sunny in Lisbon."


def test_what_no_tape_answers_is_a_final_error_that_names_the_nearest(upstream: Upstream, tapes: Path) -> None:
    with running_gateway(record=tapes, config=upstream.config) as gateway:
        ask(gateway, "hello", temperature=0.5)
    with running_gateway(replay=tapes, strict=True) as gateway:
        with pytest.raises(flatfee.BadRequestError, match="No tape answers") as caught:
            ask(gateway, "hello?", temperature=0.5)
        with pytest.raises(UnmatchedRequest, match="No tape answers"):
            gateway.assert_all_matched()
    assert caught.value.code == "unmatched_request"
    assert '  - messages[0].content: recorded "hello", asked "hello?"' in str(caught.value)
    assert "0001-up-premium-hello.json" in str(caught.value)
    assert "temperature" not in str(caught.value)


def test_without_strict_the_default_model_answers_what_no_tape_does(upstream: Upstream, tapes: Path) -> None:
    with running_gateway(record=tapes, config=upstream.config) as gateway:
        ask(gateway, "hello")
    with running_gateway(replay=tapes) as gateway:
        assert ask(gateway, "something else").choices[0].message.content != "It is sunny in Lisbon."


def test_reset_plays_from_the_start(upstream: Upstream, tapes: Path) -> None:
    with running_gateway(record=tapes, config=upstream.config) as gateway:
        first = ask(gateway, "hello").usage
        upstream.change = lambda said: {**said, "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
        second = ask(gateway, "hello").usage
    with running_gateway(replay=tapes) as gateway:
        assert [ask(gateway, "hello").usage for _ in range(3)] == [first, second, second]
        gateway.reset()
        assert ask(gateway, "hello").usage == first


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"record": "x", "replay": "y"}, "both given"),
        ({"record": "x"}, "no real providers|there are none"),
    ],
)
def test_options_that_do_not_go_together_say_so(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told), running_gateway(**options):
        pass


def test_a_providers_key_that_is_missing_is_named_before_anything_is_asked(
    upstream: Upstream, tapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UP_KEY")
    with pytest.raises(Exception, match="'UP_KEY' is not set"), running_gateway(record=tapes, config=upstream.config):
        pass
    assert not tapes.exists()


def test_a_clock_that_stands_still_cannot_time_a_provider(upstream: Upstream, tapes: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        running_gateway(record=tapes, config=upstream.config, frozen=True).__enter__()


def test_a_tape_that_could_not_be_written_is_told_at_the_end(upstream: Upstream, tapes: Path) -> None:
    def broken(text: str) -> str:
        raise LookupError(text)

    with (
        pytest.raises(TapeError, match="No tape could be made") as caught,
        running_gateway(record=tapes, config=upstream.config, redact=broken) as gateway,
    ):
        assert ask(gateway, "hello").choices[0].message.content == "It is sunny in Lisbon."
    assert "hello" not in str(caught.value)
