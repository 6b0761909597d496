"""Answers, plain and streamed: what each block becomes, and that both shapes say the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.server.providers.anthropic.fake_messages import MODEL, USAGE, Says, text, thinking, tool_use

from flatfee.client.accumulate import CompletionSum
from flatfee.server.answers.members import UnusableAnswer
from flatfee.server.answers.stream import MAX_EVENT, RelayedStream
from flatfee.server.providers.anthropic import events
from flatfee.server.providers.anthropic.answer import as_completion
from flatfee.server.providers.anthropic.events import StreamTranslator
from flatfee.types.chat import ChatCompletionChunk

CREATED = 1_790_000_000
EVERYTHING = Says(
    [
        thinking("Let me see."),
        {"type": "redacted_thinking", "data": "opaque"},
        text("Looking – 見る"),
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
        tool_use("toolu_1", "weather", city="Oslo", days=[1, 2]),
        tool_use("toolu_2", "now"),
    ],
    "tool_use",
)
DETAILS = [
    {
        "type": "reasoning.text",
        "index": 0,
        "format": "anthropic-claude-v1",
        "text": "Let me see.",
        "signature": "sig-1",
    },
    {"type": "reasoning.encrypted", "index": 1, "format": "anthropic-claude-v1", "data": "opaque"},
]


def plain(says: Says) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(as_completion(json.dumps(says.message()).encode(), CREATED))
    return found


def stream(says: Says, *, cut: int = 1 << 20) -> bytes:
    translator = StreamTranslator(CREATED)
    data = b"".join(says.events())
    out = [translator.feed(data[at : at + cut]) for at in range(0, len(data), cut)]
    return b"".join([*out, translator.end()])


def chunks(data: bytes) -> list[dict[str, Any]]:
    lines = [line[6:] for line in data.split(b"\n") if line.startswith(b"data: ") and line != b"data: [DONE]"]
    return [json.loads(line) for line in lines]


def as_events(*told: dict[str, Any]) -> bytes:
    return b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in told)


def put_together(data: bytes) -> dict[str, Any]:
    """Return the completion that a client makes of a stream."""
    whole = CompletionSum({})
    for told in chunks(data):
        chunk = ChatCompletionChunk.model_validate(told)
        whole.add(chunk)
        for choice in chunk.choices:
            whole.choice(choice.index).add(choice)
            for call in choice.delta.tool_calls or ():
                whole.choice(choice.index).add_call(call)
    return whole.completion().model_dump(exclude_none=True)


def test_a_message_becomes_a_completion() -> None:
    assert plain(EVERYTHING) == {
        "id": "msg_01",
        "object": "chat.completion",
        "created": CREATED,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Looking – 見る",
                    "refusal": None,
                    "reasoning_content": "Let me see.",
                    "reasoning_details": DETAILS,
                    "tool_calls": [
                        {
                            "id": "toolu_1",
                            "type": "function",
                            "function": {"name": "weather", "arguments": '{"city": "Oslo", "days": [1, 2]}'},
                        },
                        {"id": "toolu_2", "type": "function", "function": {"name": "now", "arguments": "{}"}},
                    ],
                },
                "logprobs": None,
                "finish_reason": "tool_calls",
            }
        ],
        "usage": {
            "prompt_tokens": 53,
            "completion_tokens": 7,
            "total_tokens": 60,
            "prompt_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 3},
        },
    }


def test_a_stream_comes_to_the_same() -> None:
    whole = put_together(stream(EVERYTHING))
    message, expected = whole["choices"][0]["message"], plain(EVERYTHING)["choices"][0]["message"]
    assert message["content"] == expected["content"]
    assert message["reasoning_content"] == expected["reasoning_content"]
    assert message["reasoning_details"] == expected["reasoning_details"]
    for call, other in zip(message["tool_calls"], expected["tool_calls"], strict=True):
        assert (call["id"], call["function"]["name"]) == (other["id"], other["function"]["name"])
        assert json.loads(call["function"]["arguments"]) == json.loads(other["function"]["arguments"])
    assert whole["choices"][0]["finish_reason"] == "tool_calls"
    assert whole["usage"] == plain(EVERYTHING)["usage"]
    assert (whole["id"], whole["model"], whole["created"]) == ("msg_01", MODEL, CREATED)


def test_a_stream_comes_to_the_same_bytes_wherever_it_is_cut() -> None:
    expected = stream(EVERYTHING)
    for cut in (1, 2, 3, 7, 50):
        assert stream(EVERYTHING, cut=cut) == expected


@pytest.mark.parametrize("end", [b"\r\n", b"\r"])
def test_any_line_ends_will_do(end: bytes) -> None:
    translator = StreamTranslator(CREATED)
    out = translator.feed(b"".join(EVERYTHING.events()).replace(b"\n", end)) + translator.end()
    assert out == stream(EVERYTHING)


def test_the_first_chunk_names_the_role_and_the_last_is_done() -> None:
    data = stream(EVERYTHING)
    assert chunks(data)[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert data.endswith(b"data: [DONE]\n\n")
    assert events.KEEP_ALIVE in data


def test_a_thought_that_only_begins_is_no_token() -> None:
    relayed = RelayedStream(include_usage=False)
    translator = StreamTranslator(CREATED)
    told = EVERYTHING.events()
    relayed.feed(translator.feed(b"".join(told[:3])))
    assert relayed.tokens == 0
    relayed.feed(translator.feed(told[3]))
    assert relayed.tokens == 1


def test_calls_are_numbered_by_themselves() -> None:
    pieces = [
        call
        for chunk in chunks(stream(EVERYTHING))
        for choice in chunk["choices"]
        for call in choice["delta"].get("tool_calls", ())
    ]
    assert {call["id"]: call["index"] for call in pieces if "id" in call} == {"toolu_1": 0, "toolu_2": 1}
    assert "".join(call["function"]["arguments"] for call in pieces if call["index"] == 1) == "{}"


def test_a_call_whose_arguments_come_with_its_beginning_has_them() -> None:
    """Some services that speak this API send them so."""
    translator = StreamTranslator(CREATED)
    begun = {"type": "content_block_start", "index": 0, "content_block": tool_use("a", "f", x=1)}
    stopped = {"type": "content_block_stop", "index": 0}
    assert put_together(translator.feed(as_events(begun, stopped)))["choices"][0]["message"]["tool_calls"][0][
        "function"
    ] == {
        "name": "f",
        "arguments": '{"x": 1}',
    }


@pytest.mark.parametrize(
    ("stop_reason", "finish_reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("reason_of_tomorrow", "stop"),
    ],
)
def test_a_stop_reason_becomes_what_is_nearest_to_it(stop_reason: str, finish_reason: str) -> None:
    says = Says([text("x")], stop_reason)
    assert plain(says)["choices"][0]["finish_reason"] == finish_reason
    assert put_together(stream(says))["choices"][0]["finish_reason"] == finish_reason


def test_an_answer_without_blocks_is_an_empty_text() -> None:
    assert plain(Says([]))["choices"][0]["message"]["content"] == ""
    assert plain(Says([tool_use("a", "f")]))["choices"][0]["message"]["content"] is None


def test_thoughts_whose_text_is_left_out_keep_their_signature() -> None:
    says = Says([thinking(""), text("x")])
    message = plain(says)["choices"][0]["message"]
    assert "reasoning_content" not in message
    assert message["reasoning_details"][0]["signature"] == "sig-1"
    assert put_together(stream(says))["choices"][0]["message"]["reasoning_details"] == message["reasoning_details"]


@pytest.mark.parametrize(
    ("usage", "told"),
    [
        ({"input_tokens": 5, "output_tokens": 2}, (5, 2, 0)),
        ({"input_tokens": 5, "cache_read_input_tokens": None, "output_tokens": 2}, (5, 2, 0)),
        ({"input_tokens": 0, "cache_read_input_tokens": 9, "output_tokens": 2}, (9, 2, 9)),
    ],
)
def test_usage_counts_what_was_cached_once(usage: dict[str, Any], told: tuple[int, int, int]) -> None:
    found = plain(Says([text("x")], usage=usage))["usage"]
    cached = found["prompt_tokens_details"]["cached_tokens"]
    assert (found["prompt_tokens"], found["completion_tokens"], cached) == told
    assert chunks(stream(Says([text("x")], usage=usage)))[-1]["usage"] == found


def test_an_answer_without_usage_is_an_answer() -> None:
    message = {name: value for name, value in Says([text("x")]).message().items() if name != "usage"}
    found = json.loads(as_completion(json.dumps(message).encode(), CREATED))
    assert found["choices"][0]["message"]["content"] == "x"
    assert "usage" not in found


def test_usage_tells_how_much_was_thought() -> None:
    usage = {**USAGE, "output_tokens_details": {"thinking_tokens": 4}}
    assert plain(Says([text("x")], usage=usage))["usage"]["completion_tokens_details"] == {"reasoning_tokens": 4}


@pytest.mark.parametrize(("later", "prompt"), [(8, 10), (None, 7), (0, 7)])
def test_the_larger_of_two_counts_of_a_stream_holds(later: int | None, prompt: int) -> None:
    begun = {"type": "message_start", "message": {"id": "m", "model": "c", "usage": {"input_tokens": 5}}}
    usage = {"input_tokens": later, "cache_read_input_tokens": 2, "output_tokens": 3}
    ended = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}
    told = chunks(StreamTranslator(CREATED).feed(as_events(begun, ended)))[-1]["usage"]
    assert (told["prompt_tokens"], told["completion_tokens"]) == (prompt, 3)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"{}", b'{"type":"error","error":{"type":"api_error"}}', b"<html>"),
        b'{"id":"a","model":"m","content":[],"stop_reason":null}',
    ],
)
def test_what_is_no_message_stays_as_it_came(body: bytes) -> None:
    assert as_completion(body, CREATED) == body


def test_an_error_in_mid_stream_is_one_for_who_reads_it() -> None:
    relayed = RelayedStream(include_usage=False)
    relayed.feed(stream(Says([text("Hello")], breaks_off=4)))
    assert relayed.failure is not None
    assert not relayed.whole


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}',
        b'data: {"type":"error","error":"text"}',
        b'data: {"type":"error"}',
        b'data: {"error":{"message":"a proxy\'s","type":"server_error"}}',
        b'data: {"error":{"message":5}}',
        b'event: error\ndata: {"message":"a proxy\'s"}',
    ],
)
def test_an_error_of_any_shape_ends_the_answer(event: bytes) -> None:
    relayed = RelayedStream(include_usage=False)
    relayed.feed(StreamTranslator(CREATED).feed(event + b"\n\n"))
    assert relayed.failure is not None


def test_members_that_are_null_are_absent() -> None:
    """Some services write those of a block that belong to other kinds."""
    nulls = dict.fromkeys(("text", "id", "name", "input", "thinking", "signature", "data"))
    blocks = [{**nulls, **thinking("Hm.")}, {**nulls, **text("Hello")}, {**nulls, **tool_use("a", "f"), "input": None}]
    message = {**Says([]).message(), "content": blocks}
    plainly = json.loads(as_completion(json.dumps(message).encode(), CREATED))["choices"][0]["message"]
    empty = [{**blocks[0], "thinking": None, "signature": None}, {**blocks[1], "text": None}, blocks[2]]
    deltas = [
        {"type": "thinking_delta", "thinking": "Hm."},
        {"type": "text_delta", "text": "Hello"},
        {"type": "input_json_delta", "partial_json": None},
    ]
    told: list[dict[str, Any]] = []
    for index, (block, delta) in enumerate(zip(empty, deltas, strict=True)):
        told.append({"type": "content_block_start", "index": index, "content_block": block})
        told.append({"type": "content_block_delta", "index": index, "delta": delta})
        told.append({"type": "content_block_stop", "index": index})
    streamed = put_together(StreamTranslator(CREATED).feed(as_events(*told)))["choices"][0]["message"]
    for said in (plainly, streamed):
        assert (said["reasoning_content"], said["content"]) == ("Hm.", "Hello")
        assert said["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}


@pytest.mark.parametrize("piece", [5, {"a": 1}, [], True])
def test_a_piece_that_is_no_text_is_passed_over(piece: Any) -> None:
    begun = {"type": "content_block_start", "index": 0, "content_block": tool_use("a", "f")}
    delta = {"type": "input_json_delta", "partial_json": piece}
    told = {"type": "content_block_delta", "index": 0, "delta": delta}
    translator = StreamTranslator(CREATED)
    translator.feed(as_events(begun))
    assert translator.feed(as_events(told)) == b""


def test_a_chunk_names_itself_even_where_the_message_has_no_beginning() -> None:
    begun = {"type": "content_block_start", "index": 0, "content_block": text("Hello")}
    chunk = chunks(StreamTranslator(CREATED).feed(as_events(begun)))[0]
    assert {name: chunk[name] for name in ("object", "id", "model", "created")} == {
        "object": "chat.completion.chunk",
        "id": "",
        "model": "",
        "created": CREATED,
    }


def test_a_block_of_another_kind_in_its_place_ends_a_block() -> None:
    begun = {"type": "content_block_start", "index": 0, "content_block": text("Hello")}
    other = {"type": "content_block_start", "index": 0, "content_block": {"type": "block_of_tomorrow"}}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "of another kind"}}
    assert len(chunks(StreamTranslator(CREATED).feed(as_events(begun, other, delta)))) == 1


def test_an_event_that_cannot_be_read_is_seen_to_be_broken() -> None:
    translator = StreamTranslator(CREATED)
    relayed = RelayedStream(include_usage=False)
    for _ in range(4):
        relayed.feed(translator.feed(b'data: {"type": "content_block_del\n\n'))
    assert relayed.failure is not None


@pytest.mark.parametrize(
    "event",
    [
        b'{"type":"event_of_tomorrow"}',
        b'{"type":"content_block_delta","index":9,"delta":{"type":"text_delta","text":"x"}}',
        b'{"type":"content_block_stop","index":9}',
        b'{"type":"content_block_start","index":0,"content_block":{"type":7}}',
        b'{"type":"content_block_start","index":0}',
        b'{"type":"content_block_delta","index":0}',
        b'{"type":"message_delta","delta":{"stop_reason":null}}',
        b"[]",
        b"7",
    ],
)
def test_an_event_that_says_nothing_known_is_passed_over(event: bytes) -> None:
    assert StreamTranslator(CREATED).feed(b"data: %b\n\n" % event) == b""


def test_half_a_character_is_passed_on() -> None:
    translator = StreamTranslator(CREATED)
    translator.feed(b'data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n')
    piece = b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\\ud83d"}}'
    assert b'"content":"\\ufffd"' in translator.feed(b"data: %b\n\n" % piece)


def test_an_event_without_end_is_refused() -> None:
    translator = StreamTranslator(CREATED)
    translator.feed(b"data: " + b"x" * (MAX_EVENT - 6))
    with pytest.raises(UnusableAnswer):
        translator.feed(b"x")


@pytest.mark.parametrize("kinds", [["text"], ["a", "b", "c", "d"]])
def test_blocks_of_any_kind_without_end_are_refused(monkeypatch: pytest.MonkeyPatch, kinds: list[str]) -> None:
    monkeypatch.setattr(events, "MAX_BLOCKS", 3)
    told = [
        {"type": "content_block_start", "index": 0, "content_block": {"type": kind}}
        for kind in kinds * (4 // len(kinds))
    ]
    translator = StreamTranslator(CREATED)
    translator.feed(as_events(*told[:3]))
    with pytest.raises(UnusableAnswer):
        translator.feed(as_events(told[3]))


def test_arguments_that_are_kept_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_EVENT", 1000)
    translator = StreamTranslator(CREATED)
    begun = {"type": "content_block_start", "index": 0, "content_block": tool_use("a", "f", x="y" * 600)}
    translator.feed(as_events(begun))
    with pytest.raises(UnusableAnswer):
        translator.feed(as_events(begun))
