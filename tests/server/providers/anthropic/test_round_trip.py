"""What goes out and comes back is the same: texts, thoughts, calls, their ids and their order."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.server.providers.anthropic.fake_messages import Says, text, thinking
from tests.server.providers.anthropic.rules import refusals
from tests.server.providers.anthropic.test_answer import plain, put_together, stream

from flatfee.server.providers.anthropic.errors import Untranslatable
from flatfee.server.providers.anthropic.events import StreamTranslator
from flatfee.server.providers.anthropic.request import read_request

NAMES = [
    *("type", "role", "content", "text", "index", "delta", "content_block", "usage", "message", "id", "name", "input"),
    *("tool_calls", "function", "arguments", "reasoning_details", "thinking_blocks", "signature", "format", "data"),
    *("image_url", "url", "file", "file_data", "cache_control", "refusal", "output_tokens", "stop_reason", "thinking"),
]
CHARACTERS = 'a"\\/ \n\r\t\0é見🎉\u2028\ufeff{}'
WORDS = st.text(CHARACTERS, min_size=1, max_size=20).map(lambda words: f"«{words}»")
IDS = st.lists(st.text("aZ09_-", min_size=1, max_size=8).map("toolu_{}".format), max_size=4, unique=True)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(CHARACTERS, max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
INPUTS = st.dictionaries(WORDS, VALUES, max_size=3)
THOUGHTS = st.lists(WORDS.map(lambda words: thinking(words, f"sig-{len(words)}")), max_size=2)


@st.composite
def messages(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw the blocks of an answer, in the order in which Claude says them."""
    texts = draw(st.lists(WORDS, max_size=1))
    calls = [{"type": "tool_use", "id": one, "name": "f", "input": draw(INPUTS)} for one in draw(IDS)]
    return [*draw(THOUGHTS), *map(text, texts), *calls] or [text("«»")]


def given_back(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the blocks that an answer becomes when a caller sends it with its next question."""
    calls = message.get("tool_calls") or []
    results = [{"role": "tool", "tool_call_id": call["id"], "content": call["id"]} for call in calls]
    tools = [{"type": "function", "function": {"name": "f"}}]
    question = {"role": "user", "content": "Go on."}
    body = {"model": "claude-opus-4-8", "messages": [question, message, *results, question], "tools": tools}
    request = json.loads(read_request(json.dumps(body).encode()).encoded())
    assert list(refusals(request)) == []
    answered = [block["tool_use_id"] for block in request["messages"][2]["content"] if block["type"] == "tool_result"]
    assert answered == [call["id"] for call in calls]
    blocks: list[dict[str, Any]] = request["messages"][1]["content"]
    return blocks


def as_said(block: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in block.items() if name != "citations"}


@settings(max_examples=25)
@given(messages())
def test_an_answer_goes_back_as_it_was_said(blocks: list[dict[str, Any]]) -> None:
    message = plain(Says(blocks, "tool_use"))["choices"][0]["message"]
    assert given_back(message) == [as_said(block) for block in blocks]


@settings(max_examples=25)
@given(messages(), st.integers(1, 60))
def test_a_streamed_answer_goes_back_as_it_was_said(blocks: list[dict[str, Any]], cut: int) -> None:
    message = put_together(stream(Says(blocks, "tool_use"), cut=cut))["choices"][0]["message"]
    assert given_back(message) == [as_said(block) for block in blocks]


ROLES = st.sampled_from(["system", "developer", "user", "assistant"])
CHAT = st.lists(st.tuples(ROLES, st.one_of(WORDS, st.sampled_from(["", " ", "\n"]))), min_size=1, max_size=8)


@settings(max_examples=25)
@given(CHAT)
def test_every_word_of_a_conversation_goes_along_in_order(chat: list[tuple[str, str]]) -> None:
    body = {"model": "m", "messages": [{"role": role, "content": words} for role, words in [("user", "«»"), *chat]]}
    request = json.loads(read_request(json.dumps(body).encode()).encoded())
    assert list(refusals(request)) == []
    said = [(one["role"], block["text"]) for one in request["messages"] for block in one["content"]]
    told = [(role, words) for role, words in chat if words.strip() and role in {"user", "assistant"}]
    assert said == [("user", "«»"), *told]
    instructions = [words for role, words in chat if words.strip() and role in {"system", "developer"}]
    assert [block["text"] for block in request.get("system", [])] == instructions


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(CHARACTERS, max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=25)
@given(st.dictionaries(st.sampled_from(NAMES), ANYTHING, max_size=5), ANYTHING)
def test_whatever_a_body_holds_it_is_translated_or_refused(message: dict[str, Any], extra: Any) -> None:
    question = {"role": "user", "content": "Hi"}
    body = {"model": "claude-sonnet-4-5", "messages": [question, {"role": "assistant", **message}], "metadata": extra}
    with suppress(Untranslatable):
        json.loads(read_request(json.dumps(body).encode()).encoded())


@settings(max_examples=25)
@given(st.lists(st.dictionaries(st.sampled_from(NAMES), ANYTHING, max_size=5), max_size=5))
def test_whatever_events_hold_they_come_to_chunks_or_to_nothing(told: list[dict[str, Any]]) -> None:
    kinds = ["message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta"]
    translator = StreamTranslator(0)
    for kind, event in zip(kinds, told, strict=False):
        for line in translator.feed(b"data: %b\n\n" % json.dumps({**event, "type": kind}).encode()).splitlines():
            assert not line.startswith(b"data: ") or json.loads(line[6:])["choices"] is not None
