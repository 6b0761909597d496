"""Asks a target once before it is measured: is this the whole answer, plain or streamed?

Gateways write answers anew, so what counts is what an answer says, not its bytes.
"""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.peers.wrk import PATH
from benchmarks.targets import Target
from benchmarks.traffic import Shape, answer_text

_TIMEOUT: Final = 60.0
_QUOTED: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a target answered. ``refused`` says what is wrong with it; ``events`` are those of a whole stream."""

    refused: str | None
    events: int = 0


def headers(target: Target) -> list[str]:
    """Return the header lines of every request to a target."""
    return ["content-type: application/json", f"authorization: Bearer {target.key}", *target.headers]


def ask(target: Target, shape: Shape, body: bytes) -> Checked:
    """Send one request and judge its answer."""
    host, _, path = target.url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=_TIMEOUT)
    fields = dict(line.split(": ", 1) for line in headers(target))
    try:
        connection.request("POST", f"/{path}{PATH}" if path else PATH, body, fields)
        answer = connection.getresponse()
        return judge(shape, answer.status, answer.read(), receipt=target.receipt)
    except (OSError, http.client.HTTPException) as fault:
        return Checked(refused=f"no whole answer: {type(fault).__name__}: {fault}")
    finally:
        connection.close()


def judge(shape: Shape, status: int, body: bytes, *, receipt: bool) -> Checked:
    """Say whether an answer is whole. Pure."""
    quoted = body[:_QUOTED].decode(errors="replace").strip()
    if status != 200:
        return Checked(refused=f"status {status}: {quoted}")
    if receipt and b'"flatfee"' not in body:
        return Checked(refused=f"no receipt in the body: {quoted}")
    try:
        said, events = _plain(body) if shape == "plain" else _streamed(body)
    except (ValueError, LookupError, TypeError) as fault:
        return Checked(refused=f"not an answer ({fault}): {quoted}")
    if said != answer_text(shape):
        return Checked(refused=f"it says {said[:60]!r} in {len(said)} characters, not what the upstream said")
    return Checked(refused=None, events=events)


def _plain(body: bytes) -> tuple[str, int]:
    answer = json.loads(body)
    if answer["usage"]["total_tokens"] != 248:
        raise ValueError("its usage is not the upstream's")
    return answer["choices"][0]["message"]["content"], 0


def _streamed(body: bytes) -> tuple[str, int]:
    lines = [line.removeprefix(b"data: ") for line in body.splitlines() if line.startswith(b"data: ")]
    if not lines or lines[-1] != b"[DONE]":
        raise ValueError("it does not end with [DONE]")
    events: list[dict[str, Any]] = [json.loads(line) for line in lines[:-1]]
    deltas = [event["choices"][0]["delta"].get("content") or "" for event in events if event["choices"]]
    if not any((event.get("usage") or {}).get("total_tokens") == 248 for event in events):
        raise ValueError("it tells no usage")
    return "".join(deltas), len(lines)
