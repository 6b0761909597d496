"""The upstream body in a service's dialect."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flatfee.server.ask import read_ask
from flatfee.server.bodies import body_after, body_for
from flatfee.server.providers.dialect import PLAIN, Dialect
from flatfee.server.providers.rows import ROWS

USER = {"role": "user", "content": "canary-prompt"}


def sent(dialect: Dialect, **fields: Any) -> dict[str, Any]:
    body = json.dumps({"model": "auto", "messages": [USER], **fields}).encode()
    decoded: dict[str, Any] = json.loads(body_for(read_ask({}, body), "m", dialect))
    return decoded


def continued(dialect: Dialect, said: str = "Once") -> dict[str, Any]:
    body = json.dumps({"model": "auto", "messages": [USER]}).encode()
    decoded: dict[str, Any] = json.loads(body_after(read_ask({}, body), "m", said, dialect))
    return decoded


@pytest.mark.parametrize(
    ("limits", "most"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": None}, 5),
    ],
)
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_the_limit_of_an_answer_has_the_one_name_that_a_service_knows(
    name: Any, limits: dict[str, int], most: int
) -> None:
    body = sent(Dialect(output_limit=name), **limits)
    assert {key: body[key] for key in body if key.startswith("max_")} == {name: most}


def test_no_limit_is_made_up() -> None:
    assert sent(Dialect(output_limit="max_tokens"), max_completion_tokens=None).keys() == {"model", "messages"}


def test_without_stream_options_usage_is_not_asked_for() -> None:
    body = sent(Dialect(stream_options=False), stream=True, stream_options={"include_usage": True})
    assert "stream_options" not in body
    assert sent(PLAIN, stream=True)["stream_options"] == {"include_usage": True}


def test_a_member_is_called_as_a_service_calls_it() -> None:
    dialect = Dialect(rename={"seed": "random_seed"})
    assert sent(dialect, seed=7)["random_seed"] == 7
    assert "seed" not in sent(dialect, seed=7)
    assert sent(dialect, seed=7, random_seed=8)["random_seed"] == 8


def test_what_is_left_out_is_harmless_and_everything_else_stays() -> None:
    asked = {"user": "u", "logit_bias": {"1": 5}, "stop": ["x"], "unknown": [1]}
    assert sent(Dialect(leave_out=frozenset({"user"})), **asked).keys() == {
        *("model", "messages"),
        *("logit_bias", "stop", "unknown"),
    }


def test_a_developer_speaks_as_the_system_where_the_role_is_unknown() -> None:
    messages: list[dict[str, Any]] = [{"role": "developer", "content": 'Say "developer".', "x": 1}, USER]
    dialect = Dialect(developer=False)
    assert sent(dialect, messages=messages)["messages"] == [{**messages[0], "role": "system"}, USER]
    assert sent(PLAIN, messages=messages)["messages"] == messages


def test_only_results_of_tools_lose_their_name() -> None:
    messages = [
        {"role": "user", "name": "ann", "content": "a"},
        {"role": "tool", "name": "f", "tool_call_id": "1", "content": "b"},
    ]
    nameless = {name: value for name, value in messages[1].items() if name != "name"}
    assert sent(Dialect(tool_names=False), messages=messages)["messages"] == [messages[0], nameless]


THOUGHTFUL = {"role": "assistant", "content": "a", "reasoning": "r", "reasoning_content": "c", "refusal": None}
CALLS = {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]}


def test_only_answers_lose_what_a_service_does_not_know_beside_them() -> None:
    messages = [{"role": "user", "content": "a", "refusal": "mine"}, THOUGHTFUL, CALLS]
    dialect = Dialect(leave_out_of_answers=frozenset({"reasoning_content", "refusal"}))
    left = {"role": "assistant", "content": "a", "reasoning": "r"}
    assert sent(dialect, messages=messages)["messages"] == [messages[0], left, CALLS]
    assert sent(PLAIN, messages=messages)["messages"] == messages


def test_calls_lose_what_a_service_does_not_know_of_them_and_nothing_that_makes_them() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"extra_content": "id"}'}}
    signed = {**call, "extra_content": {"google": {"thought_signature": "s"}}}
    answer = {"role": "assistant", "content": None, "tool_calls": [signed, call]}
    body = sent(Dialect(leave_out_of_answers=frozenset({"extra_content", "id"})), messages=[USER, answer])
    assert body["messages"] == [USER, {**answer, "tool_calls": [call, call]}]


@pytest.mark.parametrize("calls", ["null", "[]", '"extra_content"', "[1]", "{}"])
def test_calls_that_are_none_are_left_for_the_provider_to_refuse(calls: str) -> None:
    answer = f'{{"role":"assistant","tool_calls":{calls},"extra_content":1}}'
    body = f'{{"model":"auto","messages":[{answer},{{"role":"user"}}]}}'
    dialect = Dialect(leave_out_of_answers=frozenset({"extra_content"}))
    told = json.loads(body_for(read_ask({}, body.encode()), "m", dialect))["messages"]
    assert told == [{"role": "assistant", "tool_calls": json.loads(calls)}, {"role": "user"}]


def test_answers_of_other_services_get_an_empty_thought_where_tools_were_called() -> None:
    dialect = Dialect(wants_thoughts=True)
    own = {**CALLS, "reasoning_content": "why"}
    unsaid = {**CALLS, "reasoning_content": None}
    wanted = sent(dialect, messages=[USER, CALLS, own, unsaid, {"role": "assistant", "content": "b"}, USER])
    told = [message.get("reasoning_content") for message in wanted["messages"]]
    assert told == [None, "", "why", "", "", None]
    without_tools = [USER, {"role": "assistant", "content": "b"}, USER]
    assert sent(dialect, messages=without_tools)["messages"] == without_tools


def test_a_begun_answer_has_no_thought_that_would_end_its_thinking() -> None:
    ask = read_ask({}, json.dumps({"model": "auto", "messages": [USER, CALLS, USER]}).encode())
    *_, begun = json.loads(body_after(ask, "m", "Once", ROWS["deepseek"].dialect))["messages"]
    assert begun == {"role": "assistant", "content": "Once", "prefix": True}


def test_messages_that_need_no_change_stay_the_bytes_that_came() -> None:
    body = b'{"model":"auto","messages":[ {"role" : "user","content":"\\u00e4"} ]}'
    dialect = Dialect(
        developer=False,
        tool_names=False,
        wants_thoughts=True,
        leave_out=frozenset({"user"}),
        leave_out_of_answers=frozenset({"reasoning"}),
    )
    assert b'[ {"role" : "user","content":"\\u00e4"} ]' in body_for(read_ask({}, body), "m", dialect)


@pytest.mark.parametrize("kind", ["groq", "mistral", "deepseek", "vllm", "sglang", "llama-cpp"])
def test_a_begun_answer_is_gone_on_with_as_a_service_wants_it(kind: str) -> None:
    body = continued(ROWS[kind].dialect)
    begun: dict[str, Any] = {"role": "assistant", "content": "Once"}
    if kind in {"mistral", "deepseek"}:
        begun["prefix"] = True
    assert body["messages"] == [USER, begun]
    goes_on = {"continue_final_message": True, "add_generation_prompt": False} if kind in {"vllm", "sglang"} else {}
    assert {name: body[name] for name in body.keys() - {"model", "messages"}} == goes_on
