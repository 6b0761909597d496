"""Tries of a route, made by hand."""

from __future__ import annotations

import json
from typing import Any

from flatfee.testing import Asked


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def asked(text: Any = "Hello", *, headers: dict[str, str] | None = None, **more: Any) -> Asked:
    """Return the first try of a request that says ``text``; ``more`` are members of its body, or of the try."""
    facts = {name: more.pop(name) for name in ("number", "attempt", "nth", "route", "tier") if name in more}
    body = {"model": "premium", "messages": [user(text)], **more}
    stream = bool(body.get("stream"))
    if stream:
        body.setdefault("stream_options", {"include_usage": True})
    first: dict[str, Any] = {"number": 1, "attempt": 1, "nth": 1, "route": "premium-a", "tier": "premium"}
    return Asked(
        **(first | facts),
        model="premium-model-a",
        stream=stream,
        upstream=json.dumps({**body, "model": "premium-model-a"}).encode(),
        headers=headers or {},
        body=body,
    )
