"""Ids that change with every call are replaced by ones that do not, the same in an answer and in what follows on it.

Pure but for what a recording has seen so far. An id's substitute tells which request it comes from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

FINGERPRINT: Final = "fp_recorded"
REQUEST_IDS: Final = ("x-request-id", "request-id", "openai-request-id", "x-correlation-id", "cf-ray")

_MANY: Final = 20_000
_LOOKS: Final = re.compile(r"\b(?:chatcmpl-|call_|req_)[A-Za-z0-9_-]{6,}")
_WORD: Final = re.compile(r"[\w-]{4,}")
_PREFIX: Final = re.compile(r"(?:chatcmpl|[a-z]{2,8})[-_]")
_STABLE: Final = re.compile(r"(?:chatcmpl|[a-z]{2,8})[-_][0-9a-f]{8}_\d+")


class Ids:
    """The substitutes of one recording."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def replacing(self, values: list[Any], headers: Mapping[str, str], seed: str) -> Replacing:
        """Return what replaces the ids of one exchange. ``seed`` tells it from others; it is the same each time."""
        found = {name: prefix for value in values for name, prefix in _ids(value)}
        found |= {headers[name]: "req_" for name in REQUEST_IDS if name in headers}
        chosen: dict[str, str] = {}
        for name, prefix in found.items():
            if name not in self._known and not _STABLE.fullmatch(name):
                own = _PREFIX.match(name)
                self._known[name] = f"{own.group() if own else prefix}{seed}_{len(chosen) + 1}"
            chosen[name] = self._known.get(name, name)
        while len(self._known) > _MANY:
            self._known.pop(next(iter(self._known)))
        return Replacing(chosen)


class Replacing:
    """Replaces the ids of one exchange, wherever they are named."""

    def __init__(self, chosen: Mapping[str, str]) -> None:
        self._chosen = chosen

    def text(self, text: str) -> str:
        """Return a text with its ids replaced."""
        return _WORD.sub(lambda match: self._chosen.get(match.group(), match.group()), text) if self._chosen else text

    def json(self, value: Any) -> Any:
        """Return JSON with its ids replaced."""
        if isinstance(value, str):
            return self._chosen.get(value) or self.text(value)
        if isinstance(value, list):
            return [self.json(part) for part in value]
        if not isinstance(value, dict):
            return value
        return {
            name: FINGERPRINT if name == "system_fingerprint" and isinstance(part, str) else self.json(part)
            for name, part in value.items()
        }


def _ids(value: Any) -> Iterator[tuple[str, str]]:
    """Yield every id in a request, an answer or an event, and what the substitute begins with if it has no prefix."""
    if not isinstance(value, dict):
        yield from ((name, "") for name in _LOOKS.findall(value if isinstance(value, str) else ""))
        return
    if isinstance(value.get("id"), str) and value["id"] and "choices" in value:
        yield value["id"], "chatcmpl-"
    messages = value.get("messages") or [
        choice.get(part) or {}
        for choice in value.get("choices") or ()
        if isinstance(choice, dict)
        for part in ("message", "delta")
    ]
    for message in messages if isinstance(messages, list) else ():
        yield from _of_message(message)
    error = value.get("error")
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        yield from ((name, "") for name in _LOOKS.findall(error["message"]))


def _of_message(message: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(message, dict):
        return
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        if isinstance(call, dict) and isinstance(call.get("id"), str) and call["id"]:
            yield call["id"], "call_"
    if isinstance(message.get("tool_call_id"), str) and message["tool_call_id"]:
        yield message["tool_call_id"], "call_"
