"""Conversations of agents to compact, and what must hold of every one that was compacted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw

from flatfee.server.compaction.compact import compact
from flatfee.server.compaction.reading import read_messages
from flatfee.server.estimating import count_images, estimate_prompt

Message = dict[str, Any]

LONG = "\n".join(f"line {number} of a long result" for number in range(200))


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def says(text: str) -> Message:
    return {"role": "assistant", "content": text}


def calls(*made: tuple[str, str, Mapping[str, Any] | str]) -> Message:
    """Return an assistant's message that makes calls: (id, tool, arguments)."""
    functions = [
        {
            "id": id_,
            "type": "function",
            "function": {"name": name, "arguments": given if isinstance(given, str) else json.dumps(given)},
        }
        for id_, name, given in made
    ]
    return {"role": "assistant", "content": None, "tool_calls": functions}


def result(id_: str, content: object) -> Message:
    return {"role": "tool", "tool_call_id": id_, "content": content}


def step(id_: str, name: str, arguments: Mapping[str, Any], content: object = LONG) -> list[Message]:
    """Return one call and its result."""
    return [calls((id_, name, arguments)), result(id_, content)]


def settle(count: int = 4) -> list[Message]:
    """Return turns that make older ones old."""
    return [message for number in range(count) for message in (user(f"go on {number}"), says(f"done {number}"))]


def fields_of(messages: Sequence[Message], **others: object) -> dict[str, Raw]:
    """Return the members of a body, spelled as compaction spells what it changes."""
    return {name: Raw(msgspec.json.encode(value)) for name, value in {"messages": messages, **others}.items()}


def tokens(fields: Mapping[str, Raw]) -> int:
    """Return the estimate of a request, message by message: that of a whole one may only look at samples of it."""
    empty = {**fields, "messages": Raw(b"[]")}
    nothing = estimate_prompt({"messages": Raw(b"[]")}, [], 0)
    return estimate_prompt(empty, [], 0) + sum(
        estimate_prompt({"messages": Raw(b"[%b]" % bytes(each.raw))}, [each.content], count_images(each.content))
        - nothing
        for each in read_messages(fields["messages"])
    )


def compacted(messages: Sequence[Message], *, over: int = 1, to: int = 0, keep_turns: int = 4) -> list[Message]:
    """Return a conversation after compaction: as far as it goes, unless told otherwise."""
    found = compact(fields_of(messages), over=over, to=to, keep_turns=keep_turns)
    whole: list[Message] = json.loads(bytes(found.messages)) if found is not None else list(messages)
    return whole


def unpaired(messages: Sequence[Message]) -> list[str]:
    """Name what OpenAI's API refuses: calls without results, and results without a call right before them."""
    found: list[str] = []
    asked: set[str] = set()
    for place, message in enumerate(messages):
        if message["role"] == "tool":
            if message["tool_call_id"] not in asked:
                found.append(f"messages[{place}] answers no call")
            asked.discard(message["tool_call_id"])
            continue
        if asked:
            found.append(f"messages[{place}] comes before the results of {sorted(asked)}")
        asked = {call["id"] for call in message.get("tool_calls") or ()}
    return found + ([f"no results of {sorted(asked)}"] if asked else [])


def without_words(messages: Sequence[Message]) -> list[Message]:
    """Return a conversation without the words of its tool results: what compaction must not change."""
    return [{**message, "content": _blank(message["content"])} if _told(message) else message for message in messages]


def _told(message: Message) -> bool:
    return message["role"] in {"tool", "function"}


def _blank(content: Any) -> Any:
    if isinstance(content, str):
        return ""
    if not isinstance(content, list):
        return content
    return [{**part, "text": ""} if isinstance(part, dict) and part.get("type") == "text" else part for part in content]


def agent(turns: int, *, size: int = 6000, start: int = 0) -> list[Message]:
    """Return an agent's run on one order: it reads files, edits them, runs tests, searches, and says little."""
    run = [{"role": "system", "content": "You mend programs."}, user("Mend the failing tests of this repository.")]
    for turn in range(start, start + turns):
        run += _work(turn, size)
    return run


def _work(turn: int, size: int) -> list[Message]:
    path, id_ = f"src/part_{turn % 23}.py", f"call_{turn}"
    listing = "\n".join(f"{turn * (line % 7 + 1)}: def part_{line}(self): return {line}" for line in range(size // 36))
    match turn % 5:
        case 0 | 1:
            return step(id_, "read_file", {"path": path}, listing)
        case 2:
            return step(id_, "edit_file", {"path": path, "old": "a" * 200, "new": "b" * 200}, "ok")
        case 3:
            return step(id_, "run_tests", {"filter": f"part_{turn % 3}"}, listing[: size // 2])
        case _:
            both = [(id_, "grep", {"pattern": f"part_{turn}"}), (f"{id_}b", "list_files", {"path": f"src/{turn}"})]
            return [calls(*both), result(id_, [{"type": "text", "text": listing}]), result(f"{id_}b", "src/a.py")]
