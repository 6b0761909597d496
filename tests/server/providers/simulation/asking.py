"""Bodies for the simulated model, and what it answers."""

import json
from collections.abc import Sequence
from typing import Any

from flatfee.server.providers import simulation

MODEL = "sim-large"


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def body(content: Any = "Tell me of the sea and of the wind", **more: Any) -> bytes:
    return json.dumps({"model": MODEL, "messages": [user(content)]} | more).encode()


def answer(content: Any = "Tell me of the sea and of the wind", **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(simulation.plain(body(content, **more)))
    return found


def said(content: Any = "Tell me of the sea and of the wind", **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = answer(content, **more)["choices"][0]
    return found


def events_of(pieces: Sequence[bytes]) -> list[dict[str, Any]]:
    *events, done = pieces
    assert done == b"data: [DONE]\n\n"
    assert all(piece.startswith(b"data: ") and piece.endswith(b"\n\n") for piece in events)
    return [json.loads(piece[6:]) for piece in events]


def events(content: Any = "Tell me of the sea and of the wind", **more: Any) -> list[dict[str, Any]]:
    return events_of(simulation.streamed(body(content, **more)))


def function(name: str, parameters: Any = None, **more: Any) -> dict[str, Any]:
    inner = {"name": name, **more} if parameters is None else {"name": name, "parameters": parameters, **more}
    return {"type": "function", "function": inner}


def form(schema: Any, **more: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "it", "schema": schema, **more}}


def joined(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put the choices of a stream together, as a client does."""
    choices: dict[int, dict[str, Any]] = {}
    for event in found:
        for part in event["choices"]:
            choice = choices.setdefault(
                part["index"],
                {"index": part["index"], "message": {"refusal": None}, "logprobs": None, "finish_reason": None},
            )
            _add(choice["message"], part["delta"])
            if part["logprobs"]:
                choice["logprobs"] = choice["logprobs"] or {"content": [], "refusal": None}
                choice["logprobs"]["content"] += part["logprobs"]["content"]
            choice["finish_reason"] = part["finish_reason"] or choice["finish_reason"]
    return [choices[index] for index in sorted(choices)]


def _add(message: dict[str, Any], delta: dict[str, Any]) -> None:
    for name, value in delta.items():
        if name == "tool_calls":
            calls = message.setdefault(name, [])
            for call in value:
                if call["index"] == len(calls):
                    calls.append({})
                _add(calls[call["index"]], {key: part for key, part in call.items() if key != "index"})
        elif isinstance(value, dict):
            _add(message.setdefault(name, {}), value)
        elif isinstance(value, str) and name in {"content", "arguments", "input"}:
            message[name] = (message.get(name) or "") + value
        else:
            message[name] = value
