"""A strict script refuses what no rule matches, shows how the nearest differs, and does not let it be forgotten."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from tests.testing.asking import asked, user

import flatfee
from flatfee.testing import OBEY, Raw, Reply, ScriptedGateway, UnmatchedRequest, call, contains, running_gateway
from flatfee.testing.scripting import script as scripts
from flatfee.testing.scripting.script import Script
from flatfee.testing.scripting.strict import MAX_TOLD, explained


def refused(script: Script, *tries: Any) -> str:
    """Return what a strict script says of tries that it has no rule for."""
    for each in tries:
        name, played = script.choose(each) or ("", None)
        assert name == "unmatched"
        assert played is not None
        assert played.status == 400
    with pytest.raises(UnmatchedRequest) as caught:
        script.check()
    return str(caught.value)


def ours(gateway: ScriptedGateway) -> flatfee.Client:
    return flatfee.Client(api_key=gateway.api_key, base_url=gateway.base_url)


# The difference


def test_the_nearest_rule_and_what_differs_are_shown() -> None:
    script = Script(strict=True)
    script.add("time", user=contains("time"), turn=2)
    script.add("sunny", user=contains("weather"), turn=1, headers={"x-tenant": "acme"})
    script.add("rainy", user="x", turn=2, tool="get_weather", name="rain")
    assert refused(script, asked("How is the weather?", number=3)) == (
        "No rule of the script matches completion 3, attempt 1 (route 'premium-a').\n"
        "  It says: turn=1, user='How is the weather?'\n"
        "The nearest of 3 rules is #2 (turn=1, user=contains('weather'), headers={'x-tenant': 'acme'}):\n"
        "    turn: holds\n"
        "    user: holds\n"
        "  - headers.x-tenant: expected 'acme', got nothing\n"
        "Then: #1 (turn=2, user=contains('time')); rain.\n"
        "Add a rule for it, script OBEY to let the default model answer, or run the gateway without strict."
    )


def nearest(script: Script, asked: Any) -> str:
    return explained(asked, script.rules).partition(" rules is ")[2].partition(":")[0]


def test_what_was_said_tells_more_than_where() -> None:
    script = Script(strict=True)
    script.add("a", user="time", turn=1, name="where")
    script.add("b", user="weather", turn=2, attempt=2, name="said")
    assert nearest(script, asked("weather")) == "said"


def test_of_rules_that_differ_in_their_texts_the_most_alike_is_the_nearest() -> None:
    script = Script(strict=True)
    for text in ("What time is it?", "How is the weather in Porto?", "Tell me a joke."):
        script.add("a", user=text, name=text[:8])
    assert nearest(script, asked("How is the weather in Lisbon?")) == "How is t"


def test_a_function_that_relies_on_another_condition_does_not_break_the_difference() -> None:
    script = Script(strict=True)
    script.add("a", tool_result=contains("22"), when=lambda asked: asked.conversation.tool_results[0].text == "22")
    told = refused(script, asked())
    assert "  - tool_result: expected contains('22'), got no tool result since the last answer" in told
    assert "got IndexError: tuple index out of range" in told


def test_a_script_without_rules_says_so() -> None:
    assert "There are no rules." in explained(asked(), [])


def test_where_in_a_conversation_it_differs_is_shown() -> None:
    script = Script(strict=True)
    script.add("a", messages=[{"role": "user", "content": "Hello there"}])
    assert "  - messages[0].content: expected 'Hello there', got 'Hello'" in refused(script, asked("Hello"))


def test_what_tools_returned_is_shown() -> None:
    message = {"role": "tool", "tool_call_id": "1", "name": "get_weather", "content": "22"}
    assert "tool_result={'get_weather': '22'}" in explained(asked(messages=[user("x"), message]), [])


def test_a_rule_that_is_used_up_is_the_nearest() -> None:
    script = Script(strict=True)
    script.add("a", times=1)
    script.add("b", user="x")
    script.choose(asked())
    told = refused(script, asked())
    assert "The nearest of 2 rules is #1 (any request):\n  - used up: it answered times=1\n" in told


def test_a_rule_that_would_loop_says_so() -> None:
    reply = Reply(tool_calls=(call("f"),))
    script = Script(strict=True)
    script.add(reply)
    script.choose(asked())
    called = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    result = {"role": "tool", "tool_call_id": "1", "content": "22"}
    loop = asked(messages=[user("x"), {"role": "assistant", "tool_calls": [called]}, result])
    assert "it would repeat the tool call whose result came" in refused(script, loop)


def test_many_rules_are_not_all_named() -> None:
    script = Script(strict=True)
    for number in range(9):
        script.add("a", user=str(number))
    assert refused(script, asked()).count("#") == 6
    assert "; and 3 more." in explained(asked(), script.rules)


def test_a_difference_has_a_bound() -> None:
    script = Script(strict=True)
    script.add("a", name="x" * 2 * MAX_TOLD)
    script.add("a", first=True, times=1, user="never")
    assert len(explained(asked("y" * 2 * MAX_TOLD), script.rules)) == MAX_TOLD


# What is remembered


def test_each_difference_is_told_once() -> None:
    script = Script(strict=True)
    assert refused(script, asked("a"), asked("a"), asked("b")).count("No rule of the script") == 2
    script.check()


def test_many_are_counted_and_three_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts, "MAX_FAILURES", 4)
    told = refused(Script(strict=True), *(asked(str(number)) for number in range(6)))
    assert told.count("No rule of the script") == 3
    assert told.endswith("(6 tries in all.)")


def test_clearing_forgets() -> None:
    script = Script(strict=True)
    script.choose(asked())
    script.clear()
    script.check()


# Through a gateway


@pytest.mark.parametrize("stream", [False, True])
def test_the_caller_gets_the_difference_and_no_other_route_is_asked(stream: bool) -> None:
    with running_gateway(strict=True) as gateway, ours(gateway) as client:
        gateway.script("sunny", user=contains("weather"))
        with pytest.raises(flatfee.BadRequestError) as refusal:
            client.chat.completions.create(model="premium", messages=[user("Hello")], stream=stream)
        assert refusal.value.code == "unmatched_request"
        assert "  - user: expected contains('weather'), got 'Hello'" in refusal.value.message
        assert refusal.value.response.headers["x-should-retry"] == "false"
        assert refusal.value.receipt is not None
        assert [each.outcome for each in refusal.value.receipt.attempts or ()] == ["refused"]
        assert len(refusal.value.tries) == 1
        with pytest.raises(UnmatchedRequest, match="got 'Hello'"):
            gateway.assert_all_matched()


def test_other_clients_get_it_too() -> None:
    with (
        running_gateway(strict=True) as gateway,
        openai.OpenAI(api_key=gateway.api_key, base_url=gateway.base_url) as client,
    ):
        with pytest.raises(openai.BadRequestError, match="No rule of the script matches completion 1") as refusal:
            client.chat.completions.create(model="premium", messages=[{"role": "user", "content": "Hello"}])
        assert refusal.value.code == "unmatched_request"
        gateway.rules.clear()


def test_what_matches_is_answered() -> None:
    with running_gateway(strict=True) as gateway, ours(gateway) as client:
        gateway.script("sunny", OBEY, user="Hello")
        for expected in ("sunny", "This is"):
            answer = client.chat.completions.create(model="premium", messages=[user("Hello")])
            assert str(answer.choices[0].message.content).startswith(expected)


def test_a_later_try_without_a_rule_ends_the_request() -> None:
    with running_gateway(strict=True) as gateway, ours(gateway) as client:
        gateway.script(Raw(status=503), route="premium-a", times=1)
        with pytest.raises(flatfee.BadRequestError, match="attempt 2"):
            client.chat.completions.create(model="premium", messages=[user("Hello")])
        gateway.rules.clear()


def swallow(gateway: ScriptedGateway) -> None:
    with ours(gateway) as client, pytest.raises(flatfee.BadRequestError):
        client.chat.completions.create(model="premium", messages=[user("Hello")])


def test_closing_tells_of_what_the_client_swallowed() -> None:
    with pytest.raises(UnmatchedRequest, match="user='Hello'"), running_gateway(strict=True) as gateway:
        swallow(gateway)


def test_closing_does_not_hide_an_error_that_is_on_its_way() -> None:
    def fail(gateway: ScriptedGateway) -> None:
        swallow(gateway)
        raise KeyError("the test's own")

    with pytest.raises(KeyError), running_gateway(strict=True) as gateway:
        fail(gateway)
