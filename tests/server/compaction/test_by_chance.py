"""What holds of every compacted conversation, whatever it was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from tests.server.compaction.conversations import (
    LONG,
    Message,
    calls,
    fields_of,
    result,
    says,
    tokens,
    unpaired,
    user,
    without_words,
)

from flatfee.server.compaction.compact import compact
from flatfee.server.compaction.reading import read_messages
from flatfee.server.compaction.wording import SHORTEST

pytestmark = pytest.mark.slow
"""It goes through many cases; ``make check`` has the time."""

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 400}}

words = st.sampled_from([LONG, LONG[:900], LONG.upper(), "é😀\u2028\x00" * 300, "short", ""]) | st.text(max_size=20)
parts = st.lists(words.map(lambda text: {"type": "text", "text": text}) | st.just(IMAGE), max_size=3)
contents = st.one_of(words, words, parts, st.none())
tools = st.sampled_from(["read_file", "write_file", "grep", "editor"])
arguments: st.SearchStrategy[dict[str, Any] | str] = st.sampled_from(
    [{"path": "a.py"}, {"path": "b.py", "from": 3}, {"path": "a.py", "command": "view"}, {"q": 1}, "not JSON", "{}"]
)


@st.composite
def rounds(draw: st.DrawFn) -> list[Message]:
    """Return calls that the model makes at once, with their results in any order; their ids come again."""
    made = draw(st.lists(st.tuples(tools, arguments, contents), min_size=1, max_size=3))
    asked = calls(*[(f"call_{number}", tool, given) for number, (tool, given, _) in enumerate(made)])
    results = [result(f"call_{number}", content) for number, (_, _, content) in enumerate(made)]
    return [asked, *draw(st.permutations(results))]


@st.composite
def legacy(draw: st.DrawFn) -> list[Message]:
    """Return a call of a function in the way that came before tools."""
    name = draw(tools)
    asked = {"role": "assistant", "content": None, "function_call": {"name": name, "arguments": '{"path": "a.py"}'}}
    return [asked, {"role": "function", "name": name, "content": draw(words)}]


spoken = st.one_of(words.map(user), words.map(says)).map(lambda message: [message])
conversations = st.lists(st.one_of(rounds(), rounds(), legacy(), spoken), min_size=1, max_size=14).map(
    lambda blocks: [user("Go."), *[message for block in blocks for message in block]]
)


@st.composite
def requests(draw: st.DrawFn) -> tuple[list[Message], dict[str, int]]:
    """Return a conversation, and settings by which it is too large as a rule."""
    messages = draw(conversations)
    over = draw(st.integers(1, tokens(fields_of(messages)) + 10))
    return messages, {"over": over, "to": draw(st.integers(0, over - 1)), "keep_turns": draw(st.integers(1, 4))}


def newest_from(messages: Sequence[Message], keep_turns: int) -> int:
    """Return where the part begins that is not to be touched."""
    answers = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
    return answers[-keep_turns] if len(answers) >= keep_turns else 0


def texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    return [part.get("text", "") for part in content or ()]


@settings(max_examples=100, deadline=None)
@given(requests())
def test_compaction_keeps_structure_pairs_and_the_newest_and_trims_only_what_it_must(
    request: tuple[list[Message], dict[str, int]],
) -> None:
    messages, wanted = request
    fields = fields_of(messages)
    found = compact(fields, **wanted)
    again = compact(fields, **wanted)
    if found is None:
        assert again is None
        before = after = Raw(fields["messages"])
    else:
        assert again is not None
        before, after = fields["messages"], found.messages
        assert bytes(again.messages) == bytes(after), "the same conversation gives the same bytes"
        assert compact({"messages": after}, **wanted) is None, "what was compacted is not compacted further"
        assert len(bytes(after)) < len(bytes(before))
        assert 0 < found.tokens == tokens({"messages": after}) < tokens(fields)
    told: list[Message] = json.loads(bytes(after))
    assert without_words(told) == without_words(messages)
    assert unpaired(told) == unpaired(messages) == []
    changed = [place for place, (old, new) in enumerate(zip(messages, told, strict=True)) if old != new]
    assert len(changed) == (found.changed if found is not None else 0)
    keep = newest_from(messages, wanted["keep_turns"])
    assert all(place < keep for place in changed)
    kept = [
        (bytes(old.raw), bytes(new.raw)) for old, new in zip(read_messages(before), read_messages(after), strict=True)
    ]
    assert all(old == new for place, (old, new) in enumerate(kept) if place not in changed), "bytes stay as they came"
    if tokens({"messages": after}) > wanted["over"]:
        old = [message for message in told[:keep] if message["role"] in {"tool", "function"}]
        assert all(len(text) <= SHORTEST for message in old for text in texts(message["content"])), "nothing was left"


@settings(max_examples=40, deadline=None)
@given(requests())
def test_a_request_is_sent_as_it_was_sent_until_the_conversation_is_too_large_again(
    request: tuple[list[Message], dict[str, int]],
) -> None:
    """Between two requests of one conversation nothing changes in front, unless the second one had to be trimmed."""
    messages, wanted = request
    ends = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
    sent = [as_sent(messages[:end], wanted) for end in (*ends, len(messages)) if end]
    for earlier, later in pairwise(sent):
        grown = [*earlier, *messages[len(earlier) : len(later)]]
        if later != grown:
            assert tokens(fields_of(grown)) > wanted["over"]


def as_sent(messages: Sequence[Message], wanted: dict[str, int]) -> list[Message]:
    found = compact(fields_of(messages), **wanted)
    return list(messages) if found is None else json.loads(bytes(found.messages))
