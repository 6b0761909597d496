"""Callers of the simulated gateway: they ask, read slowly, hang up, give deadlines, and keep what they saw."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, Final

from tests.server.fakes import events_of
from tests.torture.scenery import KEYS, SPARE_KEYS
from tests.torture.world import Crashed, Process, World

from flatfee.server.app import App

BOUND: Final = 1500.0
"""Virtual seconds within which any request must have ended: far more than all time-outs and injected delays."""

_WORKFLOWS: Final = (None, None, "run-1", "run-1", "run-2", "run-3")
_SAID: Final[Mapping[str, Any]] = {"model": "premium", "messages": [{"role": "user", "content": "count to three"}]}
_ONCE: Final[Sequence[tuple[str, Mapping[str, Any]]]] = (
    *[("once", _SAID)] * 4,
    *[("streamed once", {**_SAID, "stream": True})] * 4,
    ("once", {**_SAID, "model": "economy"}),
)
"""Idempotency keys and their bodies; the last one is another body under the same key."""

_MODELS: Final = ("premium", "premium", "auto", "economy")


class Exchange:
    """One request as the server below the gateway sees it: bytes in, messages out, a caller that may leave."""

    def __init__(self, world: World, process: Process, method: str, path: str, key: str) -> None:
        self._world = world
        self._process = process
        self._waiting = [b""]
        self.gone = asyncio.Event()
        self.messages: list[MutableMapping[str, Any]] = []
        self.asked = b""
        self.scope: dict[str, Any] = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": path,
            "query_string": b"",
            "headers": [(b"host", b"gateway"), (b"authorization", f"Bearer {key}".encode())],
        }

    def load(self, headers: Mapping[str, str], body: bytes) -> None:
        """Set what is sent."""
        self.scope["headers"] += [(name.encode(), value.encode()) for name, value in headers.items()]
        self.asked = body
        half = self._world.rng.randrange(len(body))
        self._waiting = [body[half:], body[:half]] if self._world.strikes(self._world.mood.slow) else [body]

    async def receive(self) -> MutableMapping[str, Any]:
        await self._world.pause(self._process, "body" if self._waiting else "listening")
        if not self._waiting or self.gone.is_set():
            await self.gone.wait()
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": self._waiting.pop(), "more_body": bool(self._waiting)}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        world = self._world
        await world.pause(self._process, "send")
        if world.strikes(world.mood.slow):
            await asyncio.sleep(world.rng.choice((1.0, 6.0, 20.0, 50.0)))
        if world.strikes(world.mood.hang_up / 6):
            world.note("hangs up at a message")
            self.gone.set()
        if not self._process.alive:
            raise Crashed
        if self.gone.is_set():
            raise OSError("the caller has left")
        self.messages.append(message)

    @property
    def hurried(self) -> bool:
        """Tell whether the caller gave a deadline."""
        return any(name == b"x-flatfee-deadline-ms" for name, _ in self.scope["headers"])

    @property
    def status(self) -> int | None:
        """The status of the answer, once it began."""
        return self.messages[0]["status"] if self.messages else None

    @property
    def whole(self) -> bool:
        """Tell whether the caller has got the end of the answer."""
        return len(self.messages) > 1 and not self.messages[-1].get("more_body", False)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages[1:])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.messages[0]["headers"]}


async def serve(world: World, process: Process, app: App, exchange: Exchange, number: int) -> None:
    """Let the gateway serve one exchange, and see that it ends."""
    work = process.spawn(app(exchange.scope, exchange.receive, exchange.send), number)
    meddler = asyncio.create_task(_meddle(world, exchange, work))
    done, _ = await asyncio.wait({work}, timeout=BOUND)
    meddler.cancel()
    if not done:
        world.violate(f"request {number} did not end within {BOUND:.0f} s")
        work.cancel()
        return
    if work.cancelled():
        return
    error = work.exception()
    if error is not None and not isinstance(error, Crashed):
        world.violate(f"request {number} ended in {type(error).__name__}: {error}")


async def _meddle(world: World, exchange: Exchange, work: asyncio.Task[None]) -> None:
    """Hang up, or end the request as a stopping server does, at some moment."""
    rng = world.rng
    if world.strikes(world.mood.hang_up):
        await asyncio.sleep(rng.choice((0.0, 0.01, 0.06, 0.3, 2.0, 9.0)))
        world.note("hangs up")
        exchange.gone.set()
    elif world.strikes(world.mood.cancel):
        await asyncio.sleep(rng.choice((0.0, 0.01, 0.06, 0.3, 2.0, 9.0)))
        world.note("is cancelled")
        work.cancel()


def _body_of(world: World, number: int) -> dict[str, Any]:
    rng = world.rng
    body: dict[str, Any] = {"model": rng.choice(_MODELS), "messages": [{"role": "user", "content": f"ask {number}"}]}
    if rng.random() < 0.5:
        body["stream"] = True
    if rng.random() < 0.3:
        body["max_completion_tokens"] = rng.choice((1, 30, 1000))
    if rng.random() < 0.2:
        body["messages"].append({"role": "tool", "tool_call_id": "c", "content": "done"})
    return body


def completion_of(world: World, process: Process, number: int) -> Exchange:
    """Make up a completion to ask for."""
    rng = world.rng
    exchange = Exchange(world, process, "POST", "/v1/chat/completions", rng.choice([*KEYS, *KEYS, *KEYS, *SPARE_KEYS]))
    headers: dict[str, str] = {}
    workflow = rng.choice(_WORKFLOWS)
    if workflow is not None:
        headers["x-flatfee-workflow"] = workflow
    if rng.random() < 0.2:
        headers["x-flatfee-on-exhausted"] = "fail"
    if rng.random() < 0.15:
        headers["x-flatfee-deadline-ms"] = rng.choice(("1", "300", "3000", "15000"))
    if rng.random() < 0.3:
        headers["idempotency-key"], body = rng.choice(_ONCE)
    else:
        body = _body_of(world, number)
    exchange.load(headers, json.dumps(body).encode())
    world.note("request", number, "asks", body.get("stream", False), headers, body)
    return exchange


def question_of(world: World, process: Process) -> Exchange:
    """Make up something else to ask for: usage, receipts, workflows, or to release one."""
    method, path = world.rng.choice(
        (
            ("GET", "/v1/usage"),
            ("GET", "/v1/receipts"),
            ("GET", "/v1/workflows"),
            ("DELETE", "/v1/workflows/run-1"),
            ("DELETE", "/v1/workflows/run-2"),
        )
    )
    return Exchange(world, process, method, path, world.rng.choice(list(KEYS)))


def check_answer(world: World, exchange: Exchange, number: int) -> dict[str, Any] | None:
    """Check that a whole answer of a completion is one of the kinds there are; return the receipt it shows."""
    headers, status = exchange.headers, exchange.status
    if "x-flatfee-request-id" not in headers:
        world.violate(f"request {number} was answered without an id")
    if status == 200 and headers["content-type"].startswith("text/event-stream"):
        return _check_stream(world, exchange, number)
    answer = json.loads(exchange.body)
    if status != 200 and "code" not in answer.get("error", {}):
        world.violate(f"request {number} failed with {status}, and no code")
    if status in {429, 503} and headers["x-should-retry"] == "true" and int(headers.get("retry-after", 0)) < 1:
        world.violate(f"request {number} may be tried again, and is not told when")
    if "failed while it worked" in answer.get("error", {}).get("message", ""):
        world.violate(f"request {number} crashed the gateway's code")
    world.note("request", number, "got", status, answer.get("error"))
    return answer.get("flatfee")  # type: ignore[no-any-return]  # JSON


def _check_stream(world: World, exchange: Exchange, number: int) -> dict[str, Any] | None:
    events = events_of(exchange.body)
    failed = any(isinstance(event, dict) and "error" in event for event in events)
    if (events[-1:] == ["[DONE]"]) == failed:
        world.violate(f"request {number} was streamed to its end, and that is neither [DONE] nor an error")
    finished = any(
        choice.get("finish_reason")
        for event in events
        if isinstance(event, dict)
        for choice in event.get("choices", ())
    )
    if not failed and not finished:
        world.violate(f"request {number} was cut, and looks whole")
    receipts = [event["flatfee"] for event in events if isinstance(event, dict) and "flatfee" in event]
    if len(receipts) != 1:
        world.violate(f"request {number} was streamed with {len(receipts)} receipts")
    world.note("request", number, "streamed", "an error" if failed else "whole")
    return receipts[-1] if receipts else None
