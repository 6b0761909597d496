"""Compaction of a conversation while it grows: how often its beginning changes, and what hostile ones cost."""

from __future__ import annotations

import json
import time

import pytest
from msgspec import Raw
from tests.server.compaction.conversations import (
    LONG,
    Message,
    agent,
    compacted,
    fields_of,
    result,
    settle,
    tokens,
    unpaired,
)

from flatfee.server.compaction.compact import compact

OVER, TO = 20_000, 14_000


def test_an_agents_prompt_begins_as_before_in_nearly_every_request() -> None:
    run, changes = agent(150, size=2400), 0
    sent: list[Message] = []
    ends = [place for place, message in enumerate(run) if message["role"] == "assistant"][::4]
    for end in (*ends, len(run)):
        now = compacted(run[:end], over=OVER, to=TO)
        assert unpaired(now) == []
        assert tokens(fields_of(now)) <= OVER
        changes += now[: len(sent)] != sent
        sent = now
    grown = tokens(fields_of(run))
    assert grown > 3 * OVER
    assert 1 <= changes <= grown / (OVER - TO)


def long_run(kind: str, size: int) -> bytes:
    """Return messages that would cost more than their size, if anything were gone through twice."""
    match kind:
        case "many short messages":
            return b"[" + b",".join([b'{"role":"assistant","content":"%b"}' % (b"x" * 30)] * (size // 65)) + b"]"
        case "many results of one file":
            function = b'{"name":"read","arguments":"{\\"path\\":\\"a\\"%b}"}'
            call = b'{"role":"assistant","tool_calls":[{"id":"c","function":%b}]}' % function
            told = b'{"role":"tool","tool_call_id":"c","content":"%b"}' % (b"x" * 400)
            pairs = [call % (b',\\"n\\":%d' % number) + b"," + told for number in range(size // 560)]
            return b"[" + b",".join(pairs) + b"]"
        case "one long result":
            return b'[{"role":"tool","content":"%b"},{"role":"assistant"}]' % (b"\\n" * (size // 2))
        case "nested arguments":
            deep = b"[" * 400 + b"]" * 400
            call = b'{"role":"assistant","tool_calls":[{"id":"c","function":{"name":"read","arguments":"%b"}}]}' % deep
            return b"[" + b",".join([call] * (size // 900)) + b"]"
        case _:
            return (
                b"["
                + b",".join([b'{"role":"tool","content":[%b]}' % b",".join([b"{}"] * 1000)] * (size // 3050))
                + b"]"
            )


@pytest.mark.parametrize(
    "kind",
    ["many short messages", "many results of one file", "one long result", "nested arguments", "many parts"],
)
def test_the_time_grows_with_the_size_only(kind: str) -> None:
    def taken(size: int) -> float:
        fields = {"messages": Raw(long_run(kind, size))}
        begun = time.process_time()
        compact(fields, over=1, to=0, keep_turns=1)
        return time.process_time() - begun

    taken(3_000)
    least = min(taken(30_000) for _ in range(3))
    assert taken(300_000) < 100 * max(least, 0.001), "ten times the size takes far less than a hundred times"


def test_a_result_of_more_parts_than_any_tool_makes_stays_as_it_is() -> None:
    """A body has room for a million that are empty; to go through them would take a minute."""
    trimmed = [
        compact(
            fields_of([result("c", [{"type": "text", "text": LONG[:400]}] * count), *settle(1)]),
            over=1,
            to=0,
            keep_turns=1,
        )
        for count in (1000, 1001)
    ]
    assert [found is not None for found in trimmed] == [True, False]


def test_a_result_of_very_many_braces_is_not_even_taken_apart() -> None:
    part = {"type": "text", "text": "{" * 100_000}
    run = [result("c", [part]), *settle(1)]
    assert compact(fields_of(run), over=1, to=0, keep_turns=1) is None
    part["text"] = part["text"][1:]
    assert compact(fields_of(run), over=1, to=0, keep_turns=1) is not None


def test_what_is_compacted_stays_valid_for_the_next_turn() -> None:
    """A caller that takes over what was sent (it cannot know) and goes on is served as well."""
    told = compacted(agent(40, size=2400), over=OVER, to=TO)
    more: list[Message] = [*told, *agent(60, size=2400, start=40)[2:]]
    whole = json.loads(json.dumps(compacted(more, over=OVER, to=TO)))
    assert unpaired(whole) == []
    assert tokens(fields_of(whole)) <= OVER
