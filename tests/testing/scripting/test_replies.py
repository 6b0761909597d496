"""What a model says is written down once, closed to what it does not know, and said the same plain and streamed."""

from __future__ import annotations

import json
import re
from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from tests.testing.asking import asked, user

from flatfee.server.providers import simulation
from flatfee.testing import OBEY, Raw, Reply, Tokens, ToolCall, call
from flatfee.testing.scripting import speaking
from flatfee.testing.scripting.played import Pause, Played
from flatfee.testing.scripting.replies import answering


def said(reply: Any, **body: Any) -> dict[str, Any]:
    """Return the plain completion that a reply becomes."""
    played = answering(reply).play(asked(**body))  # type: ignore[union-attr]  # it is no edge
    (data,) = [piece for piece in played.pieces if isinstance(piece, bytes)]
    completion: dict[str, Any] = json.loads(data)
    return completion


def events(played: Played) -> list[dict[str, Any]]:
    parts = [piece for piece in played.pieces if isinstance(piece, bytes)]
    assert parts[-1] == b"data: [DONE]\n\n"
    return [json.loads(part.removeprefix(b"data: ")) for part in parts[:-1]]


def streamed(reply: Any, **body: Any) -> list[dict[str, Any]]:
    return events(answering(reply).play(asked(stream=True, **body)))  # type: ignore[union-attr]  # it is no edge


def deltas(reply: Any, name: str = "content") -> list[str]:
    found = (event["choices"][0]["delta"].get(name) for event in streamed(reply) if event["choices"])
    return [piece for piece in found if piece]


def put_together(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """Put a stream together, as a client does that knows nothing but OpenAI's documentation."""
    whole: dict[str, Any] = {"choices": {}}
    for chunk in chunks:
        whole |= {name: chunk[name] for name in ("id", "created", "model")}
        if "usage" in chunk:
            whole["usage"] = chunk["usage"]
        for choice in chunk["choices"]:
            had = whole["choices"].setdefault(choice["index"], {"message": {}, "finish_reason": None})
            had["finish_reason"] = choice["finish_reason"] or had["finish_reason"]
            join(had["message"], choice["delta"])
    return whole


def join(message: dict[str, Any], delta: dict[str, Any]) -> None:
    for name, value in delta.items():
        if name == "tool_calls":
            for part in value:
                calls = message.setdefault("tool_calls", [])
                if part["index"] == len(calls):
                    calls.append({"function": {}})
                own = calls[part["index"]]
                own |= {key: part[key] for key in ("id", "type") if key in part}
                for key, text in part["function"].items():
                    own["function"][key] = own["function"].get(key, "") + text
        else:
            message[name] = message[name] + value if isinstance(message.get(name), str) and value else value


def whole(completion: dict[str, Any]) -> dict[str, Any]:
    choices = {
        choice["index"]: {"message": choice["message"], "finish_reason": choice["finish_reason"]}
        for choice in completion["choices"]
    }
    return {name: completion[name] for name in ("id", "created", "model", "usage") if name in completion} | {
        "choices": choices
    }


# The forms


def test_a_text_is_a_reply() -> None:
    assert answering("Hello") == Reply(text="Hello")


def test_a_call_takes_its_arguments_by_name_as_a_mapping_or_as_text() -> None:
    assert call("f", city="Lisbon") == call("f", {"city": "Lisbon"}) == ToolCall(name="f", arguments={"city": "Lisbon"})
    assert call("f", '{"city": ').written == '{"city": '
    assert call("f", {"name": "x"}, more=1).arguments == {"name": "x", "more": 1}
    with pytest.raises(ValueError, match="by name, not both"):
        call("f", "{}", city="Lisbon")


@pytest.mark.parametrize(
    ("form", "given", "cure"),
    [
        (Reply, {"txt": "x"}, "Reply has no 'txt'; did you mean 'text'?"),
        (Reply, {"data": 1}, "Reply has no 'data'; there are: kind, text, tool_calls, json"),
        (Reply, {}, "without anything to say"),
        (Reply, {"text": "x", "json": 1}, "text, json or chunks of text; give one of them"),
        (Reply, {"chunks": ("x",), "json": 1}, "give one of them"),
        (Reply, {"text": "xy", "chunks": ("x", "z")}, "do not make up"),
        (Reply, {"text": "x", "choices": ({"text": "y"},)}, "move text into one of them"),
        (Reply, {"text": "x", "delay": -1}, "greater than or equal to 0"),
        (Reply, {"text": "x", "pace": float("inf")}, "finite"),
        (
            Reply,
            {"chunks": "xy"},
            "chunks\n  Value error, 'xy' is not possible; give how many pieces, or a list of them",
        ),
        (Reply, {"text": "x", "chunks": 0}, "greater than or equal to 1"),
        (Reply, {"text": "x", "finish_reason": "done"}, "'stop', 'length'"),
        (Tokens, {"inputs": 1}, "Tokens has no 'inputs'; did you mean 'input'?"),
        (Raw, {"body": "x", "chunks": ("y",)}, "give one of them"),
        (Raw, {"status": 100}, "greater than or equal to 200"),
        (ToolCall, {"name": ""}, "at least 1 character"),
    ],
)
def test_forms_are_closed_and_say_the_cure(form: Any, given: dict[str, Any], cure: str) -> None:
    with pytest.raises(ValueError, match=cure.replace("?", r"\?")):
        form(**given)


def test_a_form_is_shown_as_it_was_written() -> None:
    assert repr(Reply(json=[1], delay=2)) == "Reply(json=[1], delay=2.0)"
    assert repr(OBEY) == "Obey()"


def test_forms_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Reply(text="x").text = "y"


@pytest.mark.parametrize(("given", "cure"), [({"a": 1}, r"Reply\(json=…\) says it as JSON"), (5, "5 is no answer")])
def test_what_is_no_answer_is_refused(given: Any, cure: str) -> None:
    with pytest.raises(TypeError, match=cure):
        answering(given)


# What is said


def test_json_is_said_as_text_null_too() -> None:
    assert said(Reply(json={"city": "Évora"}))["choices"][0]["message"]["content"] == '{"city":"Évora"}'
    assert said(Reply(json=None))["choices"][0]["message"]["content"] == "null"


def wanting(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "city", "schema": schema}}


CITY = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


def test_json_has_to_fit_the_schema_that_is_asked_for() -> None:
    reply = Reply(json={"title": "Lisbon"})
    with pytest.raises(ValueError, match="does not fit the schema 'city' that the request asks for; to say it all the"):
        said(reply, response_format=wanting(CITY))
    with pytest.raises(ValueError, match="does not fit"):
        said(Reply(choices=[Reply(text="x"), reply]), response_format=wanting(CITY))
    assert said(Reply(json={"name": "Lisbon"}), response_format=wanting(CITY))
    assert said('{"title":"Lisbon"}', response_format=wanting(CITY))


@pytest.mark.parametrize("schema", [None, {}, {"type": "nonsense"}])
def test_without_a_schema_that_can_be_read_any_json_will_do(schema: Any) -> None:
    assert said(Reply(json=[1]), response_format=wanting(schema))


def test_what_takes_too_long_to_check_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speaking, "_STEPS", 1)
    assert said(Reply(json={"title": "Lisbon"}), response_format=wanting(CITY))


@pytest.mark.parametrize("messages", [[{"content": [{}]}], [{"content": 5}]])
def test_odd_messages_are_answered_all_the_same(messages: Any) -> None:
    assert said("x", messages=messages)["usage"]["prompt_tokens"] == 1


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(text="x"), "stop"),
        (Reply(tool_calls=(call("f"),)), "tool_calls"),
        (Reply(refusal="No."), "stop"),
        (Reply(text="x", finish_reason="length"), "length"),
    ],
)
def test_the_finish_reason_follows_unless_it_is_given(reply: Reply, reason: str) -> None:
    assert said(reply)["choices"][0]["finish_reason"] == reason


def test_ids_are_the_same_for_the_same_request_and_differ_between_turns() -> None:
    reply = Reply(tool_calls=(call("f"), call("f"), call("g")))
    first, again, later = said(reply), said(reply), said(reply, text="And now?")
    assert first == again
    assert first["id"] != later["id"]
    ids = [each["id"] for answer in (first, later) for each in answer["choices"][0]["message"]["tool_calls"]]
    assert len(set(ids)) == 6


def test_an_id_of_ones_own_is_kept() -> None:
    reply = Reply(tool_calls=(ToolCall(name="f", id="call_7"),))
    assert said(reply)["choices"][0]["message"]["tool_calls"][0]["id"] == "call_7"


def test_usage_is_counted_as_the_default_model_counts() -> None:
    body: dict[str, Any] = {"messages": [user("Hello"), user([{"type": "text", "text": "there"}])]}
    obeyed = json.loads(simulation.plain(asked(**body).upstream))
    again = said(obeyed["choices"][0]["message"]["content"], **body)
    assert again["usage"] == obeyed["usage"]


def test_usage_that_is_given_is_told() -> None:
    usage = said(Reply(text="x", usage=Tokens(input=10, output=5, cached=3)))["usage"]
    assert usage == {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
    assert said(Reply(text="x", usage=Tokens(input=10)))["usage"]["completion_tokens"] == 1


def test_a_provider_may_tell_no_usage() -> None:
    assert "usage" not in said(Reply(text="x", usage=None))
    assert not any("usage" in event for event in streamed(Reply(text="x", usage=None)))


def test_a_stream_tells_usage_only_if_it_is_asked_to() -> None:
    assert streamed("x")[-1]["usage"]["total_tokens"] > 0
    assert not any("usage" in event for event in streamed("x", stream_options={}))


def test_a_stream_begins_with_the_role_and_ends_with_the_reason() -> None:
    first, *_, last, _usage = streamed("Hello")
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert last["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}


def test_text_comes_in_pieces_of_words_in_so_many_or_as_given() -> None:
    assert deltas("one two three four five") == ["one two ", "three four ", "five"]
    assert deltas(Reply(text="abcdefgh", chunks=3)) == ["ab", "cde", "fgh"]
    assert deltas(Reply(text="ab", chunks=10**9)) == ["a", "b"]
    assert deltas(Reply(chunks=("a b", " c"))) == ["a b", " c"]
    assert said(Reply(chunks=("a b", " c")))["choices"][0]["message"]["content"] == "a b c"


def test_arguments_of_tools_come_in_pieces() -> None:
    calls = deltas(Reply(tool_calls=(call("f", "abcd"),), chunks=4), "tool_calls")
    assert [each[0]["function"]["arguments"] for each in calls] == ["", "a", "b", "c", "d"]  # type: ignore[index]  # not text


def test_several_choices_are_as_many_as_were_asked_for() -> None:
    reply = Reply(choices=(Reply(text="a"), Reply(text="b")))
    for n, texts in ((1, "a"), (2, "ab"), (3, "abb")):
        assert "".join(choice["message"]["content"] for choice in said(reply, n=n)["choices"]) == texts
    assert [choice["message"]["content"] for choice in said("x", n=2)["choices"]] == ["x", "x"]
    assert len(said("x", n=10**9)["choices"]) == 128


def test_silence_comes_before_the_first_token_and_between_pieces() -> None:
    reply = Reply(text="abc", chunks=3, delay=2, pace=0.5)
    played = reply.play(asked(stream=True))
    assert played.before == (Pause(2),)
    assert [piece.seconds for piece in played.pieces if isinstance(piece, Pause)] == [0.5, 0.5]
    assert isinstance(played.pieces[1], bytes)


def test_a_plain_answer_takes_as_long_as_a_streamed_one() -> None:
    assert Reply(text="abc", chunks=3, delay=2, pace=0.5).play(asked()).before == (Pause(3.0),)
    assert Reply(text="", pace=1).play(asked()).before == ()


_texts = st.text(max_size=40)
_said = st.text(min_size=1, max_size=40)
_one = st.builds(
    lambda given, tool_calls, chunks, more: Reply(**given, tool_calls=tuple(tool_calls), **chunks, **more),
    st.one_of(st.builds(lambda text: {"text": text}, _texts), st.builds(lambda data: {"json": data}, st.integers())),
    st.lists(
        st.builds(call, st.sampled_from("fg"), st.one_of(_texts, st.dictionaries(_texts, st.integers()))), max_size=3
    ),
    st.one_of(st.just({}), st.builds(lambda count: {"chunks": count}, st.integers(1, 9))),
    st.fixed_dictionaries({}, optional={"refusal": _said, "reasoning": _said, "usage": st.none()}),
)


@settings(max_examples=60, deadline=None, database=None)
@given(
    st.one_of(_one, st.builds(lambda choices: Reply(choices=tuple(choices)), st.lists(_one, min_size=1, max_size=3)))
)
def test_streamed_and_plain_say_the_same(reply: Reply) -> None:
    n = max(1, len(reply.choices))
    assert put_together(streamed(reply, n=n)) == whole(said(reply, n=n))


@settings(max_examples=30, deadline=None, database=None)
@given(_one)
def test_a_reply_comes_back_from_its_json(reply: Reply) -> None:
    assert Reply.model_validate_json(reply.model_dump_json(by_alias=True, exclude_unset=True)) == reply


class City(BaseModel):
    name: str = Field(alias="cityName")
    founded: date | None = None


def test_json_may_be_a_pydantic_model() -> None:
    """As its schema has it: by its aliases, and with texts for dates."""
    counts: dict[str, int] = {"a": 1}  # type checkers take it as well
    assert Reply(json=City(cityName="Oslo", founded=date(1040, 1, 1))).said == (
        '{"cityName":"Oslo","founded":"1040-01-01"}'
    )
    assert Reply(json=counts).said == '{"a":1}'


def test_a_call_of_a_custom_tool_takes_a_text() -> None:
    """Which of the two kinds a tool is, the request tells."""
    tools = [{"type": "custom", "custom": {"name": "shell"}}]
    reply = Reply(tool_calls=[call("shell", "ls -l"), call("other", a=1)])
    shell, other = said(reply, tools=tools)["choices"][0]["message"]["tool_calls"]
    assert (shell["type"], shell["custom"]) == ("custom", {"name": "shell", "input": "ls -l"})
    assert other["type"] == "function"
    parts = [event["choices"][0]["delta"] for event in streamed(reply, tools=tools) if event["choices"]]
    inputs = [part["tool_calls"][0]["custom"]["input"] for part in parts if "custom" in str(part)]
    assert "".join(inputs) == "ls -l"


def test_a_reply_counts_as_the_default_model_does() -> None:
    """The same text in the same conversation has the same usage, what is cached of it included."""
    messages = [user("x" * 9000), {"role": "assistant", "content": "Yes."}, user("And now?")]
    obeyed = said(OBEY, messages=messages)
    assert obeyed["usage"]["prompt_tokens_details"]["cached_tokens"] > 1024
    text = obeyed["choices"][0]["message"]["content"]
    assert said(text, messages=messages)["usage"] == obeyed["usage"]
    given = said(Reply(text="x", usage=Tokens(input=10)), messages=messages)["usage"]
    assert given["prompt_tokens_details"]["cached_tokens"] == 0  # of another prompt


@pytest.mark.parametrize(
    ("given", "cure"),
    [
        (call("f"), "Reply(tool_calls="),
        ([call("f"), call("g")], "Reply(tool_calls="),
        ({"a": 1}, "Reply(json="),
        (City(cityName="Oslo"), "Reply(json="),
        (7, "give a text"),
    ],
)
def test_what_is_no_answer_is_told_how_to_become_one(given: Any, cure: str) -> None:
    with pytest.raises(TypeError, match=re.escape(cure)):
        answering(given)


def test_one_call_is_no_list_of_calls() -> None:
    one: Any = call("f")
    with pytest.raises(ValueError, match="give a list, of one if need be"):
        Reply(tool_calls=one)


# Other answers


def test_raw_bytes_are_sent_as_they_are() -> None:
    played = Raw(status=503, headers={"Retry-After": "7"}, body={"error": "é"}, delay=1).play(asked())
    assert (played.status, played.headers, played.pieces) == (503, {"retry-after": "7"}, ('{"error":"é"}'.encode(),))
    assert played.before == (Pause(1),)
    assert Raw(chunks=(b"\xff", "x"), pace=2).play(asked()).pieces == (b"\xff", Pause(2), b"x")
    assert Raw(body="plain").play(asked()).pieces == (b"plain",)


def test_obeying_is_what_the_default_model_says() -> None:
    assert OBEY.play(asked()).pieces == (simulation.plain(asked().upstream),)
    assert list(OBEY.play(asked(stream=True)).pieces) == simulation.streamed(asked(stream=True).upstream)


def test_what_the_default_model_cannot_read_it_refuses() -> None:
    played = OBEY.play(asked(tools=[{"type": "function"}]))
    assert played.status == 400
