"""How providers say that something went wrong: bodies and events, in the shape of each of them. Pure.

What a fault does with them is in ``faults``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

Shape = Literal["openai", "anthropic", "vllm", "llamacpp", "openrouter", "text"]
"""Whose words an error has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What is told of an error, whatever the shape. ``code`` is OpenAI's, which the others do not know."""

    status: int
    type: str
    code: str | None
    message: str


_TYPES: Final[Mapping[int, tuple[str, str | None]]] = {
    400: ("invalid_request_error", None),
    401: ("authentication_error", "invalid_api_key"),
    402: ("billing_error", "billing_not_active"),
    403: ("permission_error", None),
    404: ("not_found_error", "model_not_found"),
    408: ("timeout_error", None),
    409: ("conflict_error", None),
    413: ("request_too_large", None),
    422: ("invalid_request_error", None),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    504: ("timeout_error", None),
    529: ("overloaded_error", None),
}
"""Status → type and code, where a provider says more than that it failed."""

_ALSO_TYPES: Final = frozenset({"insufficient_quota", "exceed_context_size_error", "BadRequestError"})
"""Codes that some providers tell as the type."""

_OVERFLOW: Final = "maximum context length is 8192 tokens, and this request has 9000"
OVERFLOWS: Final[Mapping[Shape, Trouble]] = {
    "openai": Trouble(
        status=400,
        type="invalid_request_error",
        code="context_length_exceeded",
        message=f"This model's {_OVERFLOW}.",
    ),
    "anthropic": Trouble(
        status=400, type="invalid_request_error", code=None, message="prompt is too long: 9000 tokens > 8192 maximum"
    ),
    "vllm": Trouble(status=400, type="BadRequestError", code=None, message=f"This model's {_OVERFLOW}."),
    "llamacpp": Trouble(
        status=400,
        type="exceed_context_size_error",
        code=None,
        message="the request exceeds the available context size, try increasing it",
    ),
    "openrouter": Trouble(status=400, type="", code=None, message=f"This endpoint's {_OVERFLOW}."),
    "text": Trouble(status=413, type="", code=None, message="Payload Too Large"),
}
"""How each says that the context is too large for it."""


def trouble(status: int, *, code: str | None = None, message: str | None = None) -> Trouble:
    """Return what a provider tells with a status, unless it is told otherwise."""
    kind, usual = _TYPES.get(status, ("server_error", None))
    return Trouble(
        status=status,
        type=code if code is not None and code in _ALSO_TYPES else kind,
        code=code if code is not None else usual,
        message=message if message is not None else f"The provider was told to answer {status}.",
    )


def _openai(told: Trouble) -> Any:
    return {"error": {"message": told.message, "type": told.type, "param": None, "code": told.code}}


def _anthropic(told: Trouble) -> Any:
    return {"type": "error", "error": {"type": told.type, "message": told.message}, "request_id": "req_upstream"}


def _vllm(told: Trouble) -> Any:
    return {"error": {"message": told.message, "type": told.type, "param": None, "code": told.status}}


def _llamacpp(told: Trouble) -> Any:
    sizes = {"n_prompt_tokens": 9000, "n_ctx": 8192} if told.type == "exceed_context_size_error" else {}
    return {"error": {"code": told.status, "message": told.message, "type": told.type, **sizes}}


def _openrouter(told: Trouble) -> Any:
    return {"error": {"code": told.status, "message": told.message, "metadata": {"provider_name": "Upstream"}}}


_BODIES: Final[Mapping[Shape, Callable[[Trouble], Any]]] = {
    "openai": _openai,
    "anthropic": _anthropic,
    "vllm": _vllm,
    "llamacpp": _llamacpp,
    "openrouter": _openrouter,
}


def body(shape: Shape, told: Trouble) -> bytes:
    """Return the body of an error."""
    if shape == "text":
        return told.message.encode()
    return json.dumps(_BODIES[shape](told)).encode()


def event(shape: Shape, told: Trouble) -> bytes:
    """Return the event that ends a stream with an error."""
    if shape == "llamacpp":
        return b"error: " + json.dumps(_llamacpp(told)["error"]).encode() + b"\n\n"
    if shape == "text":
        return b"data: " + json.dumps({"error": told.message}).encode() + b"\n\n"
    payload = _BODIES[shape](told)
    if shape == "vllm":  # its older versions, still in use, put nothing around it
        payload = {"object": "error", **payload["error"]}
    if shape == "openrouter":  # it puts the error into an event of the answer
        choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
        payload = {"id": "gen-1", "object": "chat.completion.chunk", "choices": [choice], **payload}
    name = b"event: error\n" if shape == "anthropic" else b""
    return name + b"data: " + json.dumps(payload).encode() + b"\n\n"
