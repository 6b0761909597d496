"""What the simulated provider says. Pure: the same bytes for the same request.

Plain text repeats a little of the last user message; a forced or offered tool is called once
with arguments that fit its schema; a JSON schema gets the smallest object that fits. A token is
four bytes of text, both ways.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any, Final

import msgspec

BYTES_PER_TOKEN: Final = 4
_CREATED: Final = 1_700_000_000
_WORDS_PER_EVENT: Final = 2
_MAX_DEPTH: Final = 16


def plain(body: bytes) -> bytes:
    """Return the completion for a request body."""
    ask = json.loads(body)
    answers = [_Said(ask, index) for index in range(ask.get("n") or 1)]
    choices = [
        {"index": said.index, "message": said.message(), "logprobs": None, "finish_reason": said.finish_reason}
        for said in answers
    ]
    head = _head(ask, body, "chat.completion")
    return msgspec.json.encode({**head, "choices": choices, "usage": _usage(ask, answers)})


def streamed(body: bytes) -> list[bytes]:
    """Return the events of a streamed completion for a request body, ``[DONE]`` included."""
    ask = json.loads(body)
    answers = [_Said(ask, index) for index in range(ask.get("n") or 1)]
    head = _head(ask, body, "chat.completion.chunk")
    events: list[dict[str, Any]] = []
    for said in answers:
        deltas = [{"role": "assistant", "content": ""}, *said.deltas()]
        events += [_chunk(head, said.index, delta, None) for delta in deltas]
        events.append(_chunk(head, said.index, {}, said.finish_reason))
    if (ask.get("stream_options") or {}).get("include_usage"):
        events.append({**head, "choices": [], "usage": _usage(ask, answers)})
    return [*(b"data: " + msgspec.json.encode(event) + b"\n\n" for event in events), b"data: [DONE]\n\n"]


class _Said:
    """One choice: text or a tool call, cut to the tokens that were asked for."""

    def __init__(self, ask: dict[str, Any], index: int) -> None:
        self.index = index
        tool = _tool_to_call(ask)
        schema = _schema(ask)
        self._call: dict[str, Any] | None = None
        self._text = ""
        self.finish_reason = "stop"
        if tool is not None:
            arguments = json.dumps(instance(tool.get("parameters") or {}), separators=(",", ":"))
            identity = hashlib.sha256(f"{tool['name']}{arguments}{index}".encode()).hexdigest()[:24]
            function = {"name": tool["name"], "arguments": arguments}
            self._call = {"id": f"call_{identity}", "type": "function", "function": function}
            self.finish_reason = "tool_calls"
            return
        text = json.dumps(instance(schema)) if schema is not None else _reply(ask, index)
        most = (ask.get("max_completion_tokens") or ask.get("max_tokens") or len(text)) * BYTES_PER_TOKEN
        self._text = text.encode()[:most].decode(errors="ignore")
        if len(self._text) < len(text):
            self.finish_reason = "length"

    @property
    def tokens(self) -> int:
        said = self._call["function"]["arguments"] if self._call else self._text
        return max(1, -(-len(said.encode()) // BYTES_PER_TOKEN))

    def message(self) -> dict[str, Any]:
        if self._call is not None:
            return {"role": "assistant", "content": None, "refusal": None, "tool_calls": [self._call]}
        return {"role": "assistant", "content": self._text, "refusal": None}

    def deltas(self) -> list[dict[str, Any]]:
        if self._call is not None:
            name, arguments = self._call["function"]["name"], self._call["function"]["arguments"]
            half = len(arguments) // 2
            first = {**self._call, "index": 0, "function": {"name": name, "arguments": arguments[:half]}}
            return [
                {"tool_calls": [first]},
                {"tool_calls": [{"index": 0, "function": {"arguments": arguments[half:]}}]},
            ]
        words = self._text.split(" ")
        starts = range(0, len(words), _WORDS_PER_EVENT)
        pieces = [" ".join(words[start : start + _WORDS_PER_EVENT]) for start in starts]
        return [{"content": piece if last else piece + " "} for piece, last in _mark_last(pieces)]


def _mark_last(pieces: list[str]) -> list[tuple[str, bool]]:
    return [(piece, index == len(pieces) - 1) for index, piece in enumerate(pieces)]


def _head(ask: dict[str, Any], body: bytes, kind: str) -> dict[str, Any]:
    identity = hashlib.sha256(body).hexdigest()[:24]
    return {"id": f"chatcmpl-{identity}", "object": kind, "created": _CREATED, "model": ask["model"]}


def _chunk(head: dict[str, Any], index: int, delta: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
    return {**head, "choices": [{"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]}


def _usage(ask: dict[str, Any], answers: list[_Said]) -> dict[str, int]:
    heard = sum(len(_text(message.get("content")).encode()) + 8 for message in ask["messages"])
    prompt = -(-heard // BYTES_PER_TOKEN)
    said = sum(answer.tokens for answer in answers)
    return {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said}


def _text(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _reply(ask: dict[str, Any], index: int) -> str:
    said = [_text(message.get("content")) for message in ask["messages"] if message.get("role") == "user"]
    about = " ".join((said[-1] if said else "").split()[:12]) or "nothing"
    again = f" (choice {index + 1})" if index else ""
    return f"This is {ask['model']}, a simulated model{again}. You said: {about}. Nothing was really thought about it."


def _tool_to_call(ask: dict[str, Any]) -> dict[str, Any] | None:
    """Return the function to call: a forced one, or the first one offered until a result came back."""
    functions = [tool["function"] for tool in ask.get("tools") or () if tool.get("type") == "function"]
    choice = ask.get("tool_choice", "auto")
    if not functions or choice == "none":
        return None
    if isinstance(choice, dict):
        wanted = choice.get("function", {}).get("name")
        return next((function for function in functions if function["name"] == wanted), None)
    answered = ask["messages"][-1].get("role") == "tool"
    return None if answered and choice == "auto" else functions[0]


def _schema(ask: dict[str, Any]) -> dict[str, Any] | None:
    wanted = ask.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        return (wanted.get("json_schema") or {}).get("schema") or {}
    return {"type": "object"} if wanted.get("type") == "json_object" else None


def instance(schema: dict[str, Any]) -> Any:
    """Return a small value that fits a JSON schema made of the usual keywords.

    Understands ``const``, ``enum``, ``default``, ``$ref`` within the schema, ``anyOf``,
    ``oneOf``, ``allOf``, types, ``properties`` with ``required``, ``items`` with ``minItems``,
    ``minLength`` and the numeric bounds.
    """
    return _instance(schema, schema, 0)


def _instance(schema: Any, root: dict[str, Any], depth: int) -> Any:
    if not isinstance(schema, dict) or depth > _MAX_DEPTH:
        return None
    if "$ref" in schema:
        return _instance(_resolve(root, str(schema["$ref"])), root, depth + 1)
    for keyword in ("const", "default"):
        if keyword in schema:
            return schema[keyword]
    if schema.get("enum"):
        return schema["enum"][0]
    for keyword in ("anyOf", "oneOf"):
        if schema.get(keyword):
            return _instance(schema[keyword][0], root, depth + 1)
    if schema.get("allOf"):
        merged: dict[str, Any] = {}
        for part in schema["allOf"]:
            merged |= part
        return _instance(merged, root, depth + 1)
    return _of_type(schema, root, depth)


def _of_type(schema: dict[str, Any], root: dict[str, Any], depth: int) -> Any:
    kind = schema.get("type", "object" if "properties" in schema else "string")
    match kind[0] if isinstance(kind, list) else kind:
        case "object":
            properties = schema.get("properties") or {}
            wanted = schema.get("required", list(properties))
            return {name: _instance(properties.get(name, {}), root, depth + 1) for name in wanted}
        case "array":
            item = schema.get("items") or {}
            return [_instance(item, root, depth + 1) for _ in range(min(int(schema.get("minItems", 0)), 100))]
        case "integer":
            return _integer(schema)
        case "number":
            return _number(schema)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return "text".ljust(min(int(schema.get("minLength", 0)), 1000), ".")[: schema.get("maxLength", 1000)]


def _integer(schema: dict[str, Any]) -> int:
    if "minimum" in schema:
        return math.ceil(float(schema["minimum"]))
    if "exclusiveMinimum" in schema:
        return math.floor(float(schema["exclusiveMinimum"])) + 1
    return math.floor(_number(schema))


def _number(schema: dict[str, Any]) -> float:
    """Return the least number that fits, or without a lower bound the nearest to zero."""
    if "minimum" in schema:
        return float(schema["minimum"])
    most = min((float(schema[name]) for name in ("maximum", "exclusiveMaximum") if name in schema), default=math.inf)
    if "exclusiveMinimum" in schema:
        least = float(schema["exclusiveMinimum"])
        return min(least + 1, (least + most) / 2)
    if most > 0:
        return 0.0
    return most - 1 if "exclusiveMaximum" in schema else most


def _resolve(root: dict[str, Any], reference: str) -> Any:
    found: Any = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        found = found.get(name, {}) if isinstance(found, dict) and name else found
    return found
