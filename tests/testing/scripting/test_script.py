"""Rules are tried in their order; each gives its replies in turn, one for each try, to any client."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from tests.testing.asking import asked, user

import flatfee
from flatfee.testing import (
    OBEY,
    Asked,
    Gate,
    Raw,
    Reply,
    Rule,
    ScriptedGateway,
    ScriptFailed,
    Tokens,
    anything,
    call,
    contains,
    running_gateway,
)
from flatfee.testing.scripting import script as scripts
from flatfee.testing.scripting.played import Played
from flatfee.testing.scripting.script import Script


@pytest.fixture
def gateway() -> Iterator[ScriptedGateway]:
    with running_gateway() as gateway:
        yield gateway


@pytest.fixture
def ours(gateway: ScriptedGateway) -> Iterator[flatfee.Client]:
    with flatfee.Client(api_key=gateway.api_key, base_url=gateway.base_url, max_retries=0) as client:
        yield client


@pytest.fixture
def theirs(gateway: ScriptedGateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key=gateway.api_key, base_url=gateway.base_url, max_retries=0) as client:
        yield client


def say(client: Any, text: str = "Hello", **more: Any) -> Any:
    return client.chat.completions.create(model="premium", messages=[user(text)], **more)


def text_of(client: Any, text: str = "Hello", **more: Any) -> Any:
    return say(client, text, **more).choices[0].message.content


def told(script: Script, asked: Asked) -> str | None:
    """Return what a script says to a try; ``None``: it leaves that to the default model."""
    chosen = script.choose(asked)
    return None if chosen is None else text_in(chosen[1])


def text_in(played: Played) -> str:
    (body,) = played.pieces
    assert isinstance(body, bytes)
    return str(json.loads(body)["choices"][0]["message"]["content"])


# Through a gateway, to clients


REPLY = Reply(
    text="It is sunny: 22 °C.",
    tool_calls=(call("get_weather", city="Évora"), call("get_time")),
    reasoning="Let me see.",
    usage=Tokens(input=11, output=7, cached=2),
    chunks=4,
)


@pytest.mark.parametrize("name", ["ours", "theirs"])
def test_clients_hear_what_was_scripted(
    name: str, gateway: ScriptedGateway, ours: flatfee.Client, theirs: openai.OpenAI
) -> None:
    rule = gateway.script(REPLY, user=contains("weather"), turn=1)
    answer = say(ours if name == "ours" else theirs, "What is the weather?")
    (choice,) = answer.choices
    assert choice.message.content == "It is sunny: 22 °C."
    assert [(c.function.name, c.function.arguments) for c in choice.message.tool_calls] == [
        ("get_weather", '{"city":"Évora"}'),
        ("get_time", "{}"),
    ]
    assert choice.message.reasoning_content == "Let me see."
    assert choice.finish_reason == "tool_calls"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (11, 7)
    assert answer.usage.prompt_tokens_details.cached_tokens == 2
    assert rule.used == 1


@pytest.mark.parametrize("name", ["ours", "theirs"])
def test_clients_hear_the_same_streamed(
    name: str, gateway: ScriptedGateway, ours: flatfee.Client, theirs: openai.OpenAI
) -> None:
    gateway.script(REPLY)
    client: Any = ours if name == "ours" else theirs
    plain = say(client).choices[0]
    with client.chat.completions.stream(
        model="premium", messages=[user("Hello")], stream_options={"include_usage": True}
    ) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta" and event.delta]
    final = stream.get_final_completion()
    assert len(deltas) == 4
    streamed = final.choices[0]
    assert streamed.message.content == plain.message.content
    assert [(c.id, c.function.name, c.function.arguments) for c in streamed.message.tool_calls] == [
        (c.id, c.function.name, c.function.arguments) for c in plain.message.tool_calls
    ]
    assert streamed.finish_reason == plain.finish_reason
    assert final.usage.total_tokens == 18


async def test_asynchronous_clients_hear_it_too(gateway: ScriptedGateway) -> None:
    gateway.script("Hi.")
    async with flatfee.AsyncClient(api_key=gateway.api_key, base_url=gateway.base_url) as client:
        assert await_text(await client.chat.completions.create(model="premium", messages=[user("Hello")])) == "Hi."


def await_text(answer: Any) -> Any:
    return answer.choices[0].message.content


def test_json_for_a_schema_is_parsed(gateway: ScriptedGateway, ours: flatfee.Client) -> None:
    schema = {"name": "city", "schema": {"type": "object", "properties": {"name": {"type": "string"}}}}
    gateway.script(Reply(json={"name": "Lisbon"}), schema="city")
    said = text_of(ours, response_format={"type": "json_schema", "json_schema": schema})
    assert json.loads(said) == {"name": "Lisbon"}


def test_a_refusal_is_one(gateway: ScriptedGateway, ours: flatfee.Client) -> None:
    gateway.script(Reply(refusal="I cannot."))
    assert say(ours).choices[0].message.refusal == "I cannot."


def test_what_a_provider_used_is_charged(gateway: ScriptedGateway, ours: flatfee.Client) -> None:
    gateway.script(Reply(text="x", usage=Tokens(input=100, output=10)), Reply(text="x", usage=None))
    counted, untold = say(ours).receipt, say(ours).receipt
    assert counted.fair_use.charged == 140
    assert (counted.state, untold.state) == ("settled", "estimated")


def test_silence_takes_no_real_time_and_meets_the_routes_limit(gateway: ScriptedGateway, ours: flatfee.Client) -> None:
    gateway.script(Reply(text="late", delay=599), Reply(text="too late", delay=601), "in time")
    before = gateway.now
    assert text_of(ours) == "late"
    assert (gateway.now - before).total_seconds() >= 599
    answer = say(ours)
    assert [attempt.outcome for attempt in answer.receipt.attempts] == ["timeout", "ok"]
    assert answer.choices[0].message.content == "in time"


def test_an_agent_is_led_by_what_tools_return(gateway: ScriptedGateway, ours: flatfee.Client) -> None:
    asked_for: list[str] = []

    def get_weather(city: str) -> str:
        """Tell the weather."""
        asked_for.append(city)
        return "22 °C"

    gateway.script(Reply(tool_calls=(call("get_weather", city="Lisbon"),)), user=contains("weather"))
    gateway.script("It is 22 °C.", tool_result={"get_weather": contains("22")})
    run = ours.chat.completions.run_tools(
        model="premium", messages=[user("The weather in Lisbon?")], tools=[flatfee.function_tool(get_weather)]
    )
    assert asked_for == ["Lisbon"]
    assert run.completion.choices[0].message.content == "It is 22 °C."


# Tries


def test_tries_of_one_request_ask_in_turn(gateway: ScriptedGateway, ours: flatfee.Client) -> None:
    rule = gateway.script(Raw(status=503), "ok", route="premium-a")
    answer = say(ours)
    assert [(each.route, each.status) for each in answer.receipt.attempts] == [("premium-a", 503), ("premium-a", 200)]
    assert [(each.attempt, each.nth) for each in rule.asked] == [(1, 1), (2, 2)]


def test_each_route_can_have_replies_of_its_own(gateway: ScriptedGateway, ours: flatfee.Client) -> None:
    gateway.script(Raw(status=500), route="premium-a")
    gateway.script("from b", route="premium-b")
    answer = say(ours)
    assert answer.choices[0].message.content == "from b"
    assert answer.receipt.lane == "fallback"


def test_without_a_route_replies_go_to_whichever_is_tried(gateway: ScriptedGateway, ours: flatfee.Client) -> None:
    gateway.script(Raw(status=401), "ok")
    assert [each.route for each in say(ours).receipt.attempts] == ["premium-a", "premium-b"]


def test_a_failure_for_ever_exhausts_every_route(gateway: ScriptedGateway, ours: flatfee.Client) -> None:
    rule = gateway.script(Raw(status=401))
    with pytest.raises(flatfee.FallbackExhausted):
        say(ours)
    assert [each.route for each in rule.asked] == ["premium-a", "premium-b", "economy-a", "economy-b"]


# The order of rules


def test_without_a_rule_that_matches_the_default_model_answers(gateway: ScriptedGateway, ours: flatfee.Client) -> None:
    gateway.script("Hi.", user="Bonjour")
    assert "You said: Hello" in text_of(ours)


def test_the_default_model_can_be_a_part_of_a_sequence(gateway: ScriptedGateway, ours: flatfee.Client) -> None:
    gateway.script("one", OBEY, "three")
    assert [text_of(ours)[:5] for _ in range(3)] == ["one", "This ", "three"]


def test_replies_come_in_turn_and_the_last_for_ever() -> None:
    script = Script()
    script.add("a", "b")
    assert [told(script, asked()) for _ in range(4)] == ["a", "b", "b", "b"]


def test_the_first_rule_that_matches_answers() -> None:
    script = Script()
    script.add("weather", user=contains("weather"))
    script.add("second", turn=1)
    assert told(script, asked("weather")) == "weather"
    assert told(script, asked("time")) == "second"


def test_a_rule_that_is_used_up_leaves_the_rest_to_others() -> None:
    script = Script()
    script.add("a", times=2)
    script.add("b", times=1)
    assert [told(script, asked()) for _ in range(4)] == ["a", "a", "b", None]


def test_a_rule_can_be_put_first() -> None:
    script = Script()
    script.add("usual")
    script.add("now", first=True, times=1)
    assert [told(script, asked()) for _ in range(2)] == ["now", "usual"]


def test_a_rule_can_be_removed() -> None:
    script = Script()
    rule = script.add("a")
    rule.remove()
    rule.remove()
    assert told(script, asked()) is None
    assert script.rules == ()


def test_a_rule_knows_its_tries_and_its_name() -> None:
    script = Script()
    rule = script.add("a", user=contains("Hel"))
    named = script.add("b", name="greeting")
    first, second = asked("Hello"), asked("Hell")
    assert (script.choose(first) or ("",))[0] == "#1 (user=contains('Hel'))"
    script.choose(second)
    assert (script.choose(asked("Bye")) or ("",))[0] == "greeting"
    assert rule.asked == (first, second)
    assert repr(named) == "<Rule greeting, used 1>"


def test_a_rule_that_could_never_be_reached_is_refused() -> None:
    script = Script()
    script.add("a", user=contains("x"))
    script.add("b", user=contains("y"), times=1)
    with pytest.raises(ValueError, match=r"never be reached: #1 \(user=contains\('x'\)\) before it"):
        script.add("c", user=contains("x"), turn=1)
    script.add("c", user=contains("x"), turn=1, first=True)
    script.add("d", user=contains("y"))


@pytest.mark.parametrize(
    ("replies", "options", "cure"),
    [
        ((), {}, "give OBEY"),
        (("a",), {"times": 0}, "1 or more"),
        (("a",), {"times": True}, "1 or more"),
        (("a", "b"), {"times": 1}, "the last would never be said"),
    ],
)
def test_impossible_rules_are_refused(replies: tuple[str, ...], options: dict[str, Any], cure: str) -> None:
    with pytest.raises(ValueError, match=cure):
        Script().add(*replies, **options)


def test_a_script_has_so_many_rules_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts, "MAX_RULES", 1)
    script = Script()
    script.add("a", times=1)
    with pytest.raises(ValueError, match="at most 1 rules"):
        script.add("b")


# Tools that were called


LOOP = Reply(tool_calls=(call("get_weather", city="Lisbon"),))


def after(reply: Reply, **more: Any) -> Asked:
    calls = [
        {"id": "1", "type": "function", "function": {"name": each.name, "arguments": each.written}}
        for each in reply.tool_calls
    ]
    result = {"role": "tool", "tool_call_id": "1", "content": "22"}
    return asked(messages=[user("weather"), {"role": "assistant", "tool_calls": calls}, result], **more)


def test_no_rule_repeats_a_tool_call_whose_result_has_come() -> None:
    script = Script()
    script.add(LOOP, user=contains("weather"))
    script.add("sunny", user=contains("weather"), tool_result=anything())
    assert told(script, asked("weather")) == "None"
    assert told(script, after(LOOP)) == "sunny"
    assert told(script, asked("weather")) == "None"
    assert told(script, after(Reply(tool_calls=(call("get_weather", city="Porto"),)))) == "None"


@pytest.mark.parametrize("kind", ["plain", "behind a gate", "one of several choices"])
def test_a_client_that_writes_arguments_anew_is_not_called_again(kind: str) -> None:
    script, gate, calling = Script(), Gate(), Reply(tool_calls=[call("get_weather", city="Lisbon")])
    gate.open()
    answers = {
        "plain": calling,
        "behind a gate": gate.then(calling),
        "one of several choices": Reply(choices=[Reply(text="No."), calling]),
    }
    script.add(answers[kind], name="calls")
    script.add("It is sunny.")
    assert (script.choose(asked()) or [""])[0] == "calls"
    function = {"name": "get_weather", "arguments": '{ "city": "Lisbon" }'}
    sent = {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": function}]}
    result = {"role": "tool", "tool_call_id": "1", "content": "sunny"}
    assert told(script, asked(messages=[user("Hello"), sent, result])) == "It is sunny."


def test_a_script_remembers_tries_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The latest ones, whichever rule answered them; the counts stay right."""
    monkeypatch.setattr(scripts, "MAX_ASKED_BYTES", 5000)
    script = Script()
    long, short = script.add("a", user=contains("long")), script.add("b")
    for number in range(1, 11):
        script.choose(asked("long " + "x" * 2000, number=number))
    script.choose(asked("short", number=11))
    assert [each.number for each in long.asked] == [9, 10]
    assert [each.number for each in short.asked] == [11]
    assert (long.used, short.used) == (10, 1)
    script.clear()
    assert long.asked == ()


def test_a_script_of_thousands_of_rules_is_soon_written() -> None:
    """A rule is compared with those that could take its requests, not with every one before it."""
    script, began = Script(), time.process_time()
    for number in range(3000):
        script.add("x", user=f"question {number}", turn=1)
    assert time.process_time() - began < 3
    with pytest.raises(ValueError, match=r"would never be reached: #2001 \("):
        script.add("y", turn=1, user="question 2000", model="auto")
    script.remove(script.rules[2000])
    script.add("y", turn=1, user="question 2000", model="auto")


def test_a_rule_with_times_repeats_its_tool_call() -> None:
    script = Script()
    rule = script.add(LOOP, times=3)
    assert [told(script, after(LOOP)) for _ in range(4)] == ["None", "None", "None", None]
    assert rule.used == 3


# Functions


def test_a_function_answers_with_what_it_is_asked(gateway: ScriptedGateway, ours: flatfee.Client) -> None:
    gateway.script(lambda asked: f"{asked.conversation.user}, said on {asked.route}", turn=1)
    assert text_of(ours, "Hello") == "Hello, said on premium-a"


def test_a_function_may_change_the_script() -> None:
    script = Script()

    def once(asked: Asked) -> Reply:
        rule.remove()
        script.add("later")
        return Reply(text="now")

    rule = script.add(once)
    assert [told(script, asked()) for _ in range(2)] == ["now", "later"]


@pytest.mark.parametrize("keyword", ["when", "user"])
def test_an_error_of_a_function_is_the_tests(keyword: Any) -> None:
    def broken(_: object) -> bool:
        raise KeyError("city")

    script = Script()
    wanted: Any = {keyword: broken}
    script.add("a", **wanted)
    name, played = script.choose(asked()) or ("", Played())
    assert (name, played.status) == ("error", 400)
    with pytest.raises(ScriptFailed, match=r"Rule #1 .* raised KeyError: 'city'") as caught:
        script.check()
    assert isinstance(caught.value.__cause__, KeyError)
    script.check()


def test_a_function_may_fail_the_test() -> None:
    script = Script()
    script.add(lambda asked: pytest.fail("not this route"))
    assert (script.choose(asked()) or ("",))[0] == "error"
    with pytest.raises(ScriptFailed, match="raised Failed: not this route"):
        script.check()


def test_whoever_interrupts_is_not_held_up() -> None:
    def interrupt(asked: Asked) -> str:
        raise KeyboardInterrupt

    script = Script()
    script.add(interrupt)
    with pytest.raises(KeyboardInterrupt):
        script.choose(asked())


def test_a_function_that_waits_is_refused_at_once() -> None:
    async def later(asked: Asked) -> str:
        return "x"

    wrong: Any = later
    with pytest.raises(TypeError, match="later is a coroutine function; what answers for a script must not wait"):
        Script().add(wrong)


def test_closing_tells_of_an_error_that_the_client_swallowed() -> None:
    def swallow(gateway: ScriptedGateway) -> None:
        wrong: Any = lambda asked: 5  # noqa: E731  # as a script has it
        gateway.script(wrong)
        with flatfee.Client(api_key=gateway.api_key, base_url=gateway.base_url) as client:
            with pytest.raises(flatfee.BadRequestError, match="raised TypeError") as refused:
                say(client)
            assert refused.value.code == "script_failed"

    with pytest.raises(ScriptFailed, match="5 is no answer"), running_gateway() as gateway:
        swallow(gateway)


# What happens before a route is asked


class Noted:
    """Happens to a request, and notes it."""

    def __init__(self) -> None:
        self.begun: list[Asked] = []

    def begin(self, asked: Asked) -> None:
        self.begun.append(asked)

    def __str__(self) -> str:
        return "Noted"


def test_what_happens_on_the_way_has_rules_of_its_own() -> None:
    script, noted, then = Script(strict=True), Noted(), Noted()
    script.add("all")
    script.add(noted, user=contains("Hel"), times=1)
    script.add(then)
    assert script.has_early
    first, second = (asked(attempt=0, nth=0, route="", tier="", number=number) for number in (1, 2))
    assert [script.choose(first), script.choose(second)] == [None, None]
    assert (noted.begun, then.begun) == ([first], [second])
    assert told(script, asked()) == "all"
    with pytest.raises(ValueError, match="never be reached"):
        script.add(Noted())
    script.check()


def test_a_rule_is_for_the_way_or_for_providers() -> None:
    script = Script()
    with pytest.raises(ValueError, match="Noted and what a provider answers are two rules"):
        script.add(Noted(), "a")
    with pytest.raises(ValueError, match="Noted happens before a route is asked, so its rule cannot match 'nth'"):
        script.add(Noted(), nth=1)
    assert not script.has_early


# What was used


def test_replies_that_were_not_said_are_told() -> None:
    script = Script()
    script.add("a", times=1)
    script.add("b", "c", name="rest")
    script.choose(asked())
    script.choose(asked())
    with pytest.raises(AssertionError, match="rest: used 1, 1 not said") as caught:
        script.check_all_used()
    assert "#1" not in str(caught.value)
    script.choose(asked())
    script.check_all_used()


def test_threads_take_each_reply_once() -> None:
    script = Script()
    script.add(*map(str, range(200)), times=200)
    heard: list[str | None] = []

    def ask() -> None:
        for _ in range(25):
            heard.append(told(script, asked()))  # noqa: PERF401  # as it comes: that is what is tested

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, heard)) == sorted(map(str, range(200)))


def test_only_so_many_tries_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts, "MAX_ASKED", 2)
    script = Script()
    rule: Rule = script.add("a")
    for number in (1, 2, 3):
        script.choose(asked(number=number))
    assert [each.number for each in rule.asked] == [2, 3]
    assert rule.used == 3
