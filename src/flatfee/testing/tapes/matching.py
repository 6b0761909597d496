"""Whether two requests ask for the same, and if not, where they differ. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from flatfee.testing.tapes.redaction import REDACTED, path_of

IGNORED: Final = frozenset(
    {"model", "stream_options", "user", "metadata", "store", "safety_identifier", "prompt_cache_key", "service_tier"}
)
"""Members of a request that say nothing of the answer. Which model was asked is told by the tier."""

_ALIASES: Final = {"max_tokens": "max_completion_tokens"}
_SHOWN: Final = 80
_NOTHING: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Where a request differs from a recorded one. ``recorded`` and ``asked`` are as they are shown."""

    path: str
    recorded: str
    asked: str

    def __str__(self) -> str:
        return f"{self.path}: recorded {self.recorded}, asked {self.asked}"


def canonical(request: Mapping[str, Any], left_out: Container[str] = IGNORED) -> dict[str, Any]:
    """Return what a request asks for, without what may differ: order of names, nulls, ids, spelling of texts."""
    found = {
        _ALIASES.get(name, name): value
        for name, value in request.items()
        if name not in left_out and value is not None and not (name == "stream" and value is False)
    }
    messages = found.get("messages")
    if isinstance(messages, list):
        numbers: dict[str, str] = {}
        found["messages"] = [_message(message, numbers) for message in messages]
    return found


def digest(asked: Mapping[str, Any]) -> str:
    """Return 64 characters that tell what is asked for."""
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How requests are compared: ``left_out`` are members that may differ, ``paths`` places further in."""

    left_out: frozenset[str] = IGNORED
    paths: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def ignoring(cls, names: str | Iterable[str]) -> Comparison:
        """Return a comparison that ignores more: ``seed``, ``messages[0].content``, ``messages[*].name``.

        Raises:
            ValueError: a path that is none.
        """
        given = [name.removeprefix("$.") for name in ([names] if isinstance(names, str) else names)]
        paths = [name for name in given if "." in name or "[" in name]
        return cls(left_out=IGNORED.union(given), paths=tuple(path_of(f"$.{name}", "ignore") for name in paths))

    def wanted(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a request asks for."""
        found: Any = canonical(request, self.left_out)
        for path in self.paths:
            found = _without(found, path)
        return dict(found)


def _without(value: Any, path: tuple[str, ...]) -> Any:
    """Return JSON without what stands at a path."""
    step, rest = path[0], path[1:]
    if isinstance(value, dict):
        hit = {name for name in value if step in ("*", name)}
        return {
            name: _without(part, rest) if name in hit else part
            for name, part in value.items()
            if rest or name not in hit
        }
    if isinstance(value, list):
        parts = enumerate(value)
        return [(_without(part, rest) if rest else None) if step in ("*", str(at)) else part for at, part in parts]
    return value


def differences(recorded: Any, asked: Any, path: str = "") -> Iterator[Difference]:
    """Yield where a request differs from a recorded one; what was redacted there matches any text."""
    if isinstance(recorded, dict) and isinstance(asked, dict):
        for name in [*recorded, *(name for name in asked if name not in recorded)]:
            inner = f"{path}.{name}" if path else name
            yield from differences(recorded.get(name, _NOTHING), asked.get(name, _NOTHING), inner)
    elif isinstance(recorded, list) and isinstance(asked, list):
        for index in range(max(len(recorded), len(asked))):
            one = recorded[index] if index < len(recorded) else _NOTHING
            other = asked[index] if index < len(asked) else _NOTHING
            yield from differences(one, other, f"{path}[{index}]")
    elif not _same(recorded, asked):
        yield Difference(path=path, recorded=_shown(recorded), asked=_shown(asked))


def _same(recorded: Any, asked: Any) -> bool:
    if isinstance(recorded, str) and isinstance(asked, str) and REDACTED in recorded:
        return _fits(recorded.split(REDACTED), asked)
    if recorded == REDACTED:  # a whole value that a path named
        return asked is not _NOTHING
    return bool(recorded == asked) and isinstance(recorded, bool) == isinstance(asked, bool)


def _fits(parts: list[str], text: str) -> bool:
    """Tell whether a text is the parts, with anything between them."""
    first, *middle, last = parts
    if len(text) < len(first) + len(last) or not (text.startswith(first) and text.endswith(last)):
        return False
    at, end = len(first), len(text) - len(last)
    for part in middle:
        at = text.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True


def _message(message: Any, numbers: dict[str, str]) -> Any:
    if not isinstance(message, dict):
        return message
    found = {name: value for name, value in message.items() if value is not None}
    content = found.get("content")
    if isinstance(content, list) and len(content) == 1 and isinstance(content[0], dict):
        (part,) = content
        if part.keys() == {"type", "text"} and part["type"] == "text":
            found["content"] = part["text"]
    if isinstance(found.get("tool_call_id"), str):
        found["tool_call_id"] = _numbered(found["tool_call_id"], numbers)
    if isinstance(found.get("tool_calls"), list):
        found["tool_calls"] = [_call(call, numbers) for call in found["tool_calls"]]
    return found


def _call(call: Any, numbers: dict[str, str]) -> Any:
    if not isinstance(call, dict):
        return call
    found = dict(call)
    if isinstance(found.get("id"), str):
        found["id"] = _numbered(found["id"], numbers)
    function = found.get("function")
    if isinstance(function, dict) and isinstance(function.get("arguments"), str):
        found["function"] = {**function, "arguments": _arguments(function["arguments"])}
    return found


def _numbered(name: str, numbers: dict[str, str]) -> str:
    return numbers.setdefault(name, f"call {len(numbers) + 1}")


def _arguments(text: str) -> Any:
    """Return the arguments of a call as what they say; broken ones as they are."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _shown(value: Any) -> str:
    if value is _NOTHING:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text)} characters)"
