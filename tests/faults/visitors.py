"""Callers of the soak, on raw sockets: plain or streamed, patient or in a hurry, slow, or gone in the middle.

An ``Errand`` is drawn from a seed and its number alone. ``visit`` runs one and judges what came by the
answer's own words; what the ledger says of it is compared elsewhere.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.faults.telling import VOICES, arguments_of, said_in, text_of, wrong_with
from tests.server.fakes import KEY

PATIENCE: Final = 60.0
"""Seconds within which any request must have ended: far more than all limits of all routes."""

_CLEAN: Final[Mapping[int, frozenset[str]]] = {
    400: frozenset({"content_policy_violation", "context_length_exceeded"}),
    503: frozenset({"fallback_exhausted", "provider_unavailable"}),
    504: frozenset({"deadline_exceeded"}),
}
"""The errors that a request of the soak may end with, by status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """What one caller wants, and how it behaves. Times are in seconds."""

    number: int
    words: int
    model: str
    stream: bool
    tools: bool
    workflow: str | None
    deadline_ms: int | None
    leaves_after: float | None
    slow: bool

    @classmethod
    def drawn(cls, seed: int, number: int, workflow: str) -> Errand:
        """Draw one: half of the callers are patient, plain or streamed."""
        rng = random.Random(f"{seed}:errand:{number}")
        manner = rng.random()
        return cls(
            number=number,
            words=rng.choice((1, 5, 30, 30, 200, 4000)),
            model=rng.choice(("premium", "premium", "auto", "economy")),
            stream=rng.random() < 0.7,
            tools=rng.random() < 0.15,
            workflow=workflow if rng.random() < 0.8 else None,
            deadline_ms=rng.choice((50, 300, 1500, 4000)) if rng.random() < 0.1 else None,
            leaves_after=rng.choice((0.0, 0.005, 0.05, 0.3, 1.5)) * rng.random() if manner < 0.15 else None,
            slow=0.15 <= manner < 0.25,
        )

    def request(self) -> bytes:
        """Return the request's bytes."""
        content = json.dumps({"number": self.number, "words": self.words})
        body: dict[str, Any] = {
            "model": self.model,
            "stream": self.stream,
            "messages": [{"role": "user", "content": content}],
        }
        if self.tools:
            body["tools"] = [{"type": "function", "function": {"name": "tell", "parameters": {"type": "object"}}}]
        data = json.dumps(body).encode()
        lines = [
            "POST /v1/chat/completions HTTP/1.1",
            "host: gateway",
            f"authorization: Bearer {KEY}",
            "connection: close",
            f"content-length: {len(data)}",
        ]
        if self.workflow is not None:
            lines.append(f"x-flatfee-workflow: {self.workflow}")
        if self.deadline_ms is not None:
            lines.append(f"x-flatfee-deadline-ms: {self.deadline_ms}")
        return "\r\n".join([*lines, "", ""]).encode() + data


@dataclass(slots=True)
class Visit:
    """What came of an errand: ``verdict`` in one word, and ``wrong``, if something does not hold."""

    errand: Errand
    verdict: str = "left"
    wrong: str | None = None
    request_id: str | None = None
    status: int | None = None
    code: str | None = None
    receipt: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"request {self.errand.number} ({self.request_id}): {self.wrong}"


async def visit(errand: Errand, port: int) -> Visit:
    """Run one errand."""
    seen, got = Visit(errand), bytearray()
    try:
        async with asyncio.timeout(PATIENCE):
            try:
                async with asyncio.timeout(errand.leaves_after):
                    await _exchange(errand, port, got)
                whole = True
            except TimeoutError:
                if errand.leaves_after is None:
                    raise
                whole = False
        _judge(seen, bytes(got), whole=whole)
    except TimeoutError:
        seen.verdict, seen.wrong = "hung", f"did not end within {PATIENCE:.0f} s; {len(got)} bytes had come"
    except OSError as error:
        seen.verdict, seen.wrong = "broken", f"the gateway broke the connection: {error!r}"
    return seen


async def _exchange(errand: Errand, port: int, got: bytearray) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4096 if errand.slow else 65_536)
    try:
        writer.write(errand.request())
        while data := await reader.read(4096 if errand.slow else 65_536):
            got += data
            if errand.slow:
                await asyncio.sleep(0.01)
    finally:
        writer.transport.abort()


def _judge(seen: Visit, got: bytes, *, whole: bool) -> None:
    head, found, body = got.partition(b"\r\n\r\n")
    if not found:
        if whole:
            seen.verdict, seen.wrong = "broken", f"the connection ended after {got[:80]!r}"
        return
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    seen.status, seen.request_id = int(first.split()[1]), headers.get("x-flatfee-request-id")
    if "transfer-encoding" in headers:
        body, ended = _unchunked(body)
    else:
        ended = len(body) == int(headers["content-length"])
    if whole and not ended:
        seen.verdict, seen.wrong = "broken", f"the body was cut after {len(body)} bytes"
        return
    if headers["content-type"].startswith("text/event-stream"):
        _judge_stream(seen, body, whole=whole)
    elif whole:
        _judge_plain(seen, json.loads(body))


def _unchunked(body: bytes) -> tuple[bytes, bool]:
    """Return the bytes of the chunks that have come, and whether the last one was among them."""
    parts: list[bytes] = []
    while True:
        size, found, rest = body.partition(b"\r\n")
        if not found or len(rest) < int(size, 16) + 2:
            return b"".join(parts), False
        if not int(size, 16):
            return b"".join(parts), True
        parts.append(rest[: int(size, 16)])
        body = rest[int(size, 16) + 2 :]


def _judge_plain(seen: Visit, answer: Mapping[str, Any]) -> None:
    seen.receipt = answer.get("flatfee", {})
    if seen.status == 200:
        seen.verdict, seen.wrong = "whole", wrong_with(said_in(answer["choices"]), seen.errand.number)
        return
    seen.verdict, seen.code = "error", answer["error"]["code"]
    allowed = seen.code in _CLEAN.get(seen.status or 0, ())
    if not allowed or (seen.code == "deadline_exceeded" and seen.errand.deadline_ms is None):
        seen.wrong = f"got {seen.status} {answer['error']}"


def _judge_stream(seen: Visit, body: bytes, *, whole: bool) -> None:
    *said, rest = body.decode(errors="replace").split("\n\n")
    events = [json.loads(each[6:]) for each in said if each.startswith("data: ") and each != "data: [DONE]"]
    done = bool(said) and said[-1] == "data: [DONE]"
    failed = next((event for event in events if "error" in event), None)
    choices = [choice for event in events for choice in event.get("choices", ())]
    finished = any(choice.get("finish_reason") for choice in choices)
    text = said_in(choices)
    seen.receipt = next((event["flatfee"] for event in events if "flatfee" in event), {})
    if done and finished and failed is None:
        seen.verdict, seen.wrong = "whole", wrong_with(text, seen.errand.number)
        return
    if not _is_begun(seen.errand, text):
        seen.wrong = f"what had come by then was of no one answer: {text[-80:]!r}"
    if failed is not None:
        seen.verdict, seen.code = "error in mid-stream", failed["error"]["code"]
        if done or rest.strip() or seen.code not in {"provider_unavailable", "fallback_exhausted", "deadline_exceeded"}:
            seen.wrong = f"an error event, and then {said[-1][:80]!r}: {failed['error']}"
    elif whole:
        seen.verdict, seen.wrong = (
            "cut",
            f"the stream ended after {said[-1:]}, without a finish reason and [DONE], or an error",
        )


def _is_begun(errand: Errand, text: str) -> bool:
    wholes = [make(errand.number, errand.words, voice) for make in (text_of, arguments_of) for voice in VOICES]
    return any(whole.startswith(text) for whole in wholes)
