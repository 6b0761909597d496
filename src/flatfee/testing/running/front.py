"""What stands around the gateway's app: it notes every request, and breaks connections where a script says so.

The app itself is the production one, and knows nothing of it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Self

from flatfee.server.app import App
from flatfee.server.call import Message, Receive, Scope, Send
from flatfee.testing.faults.between import Line, serve
from flatfee.testing.running.exchange import HANGS_UP, Exchange, Exchanges, enter, is_secret, without_secrets
from flatfee.testing.running.loop import Traffic
from flatfee.testing.scripting.asked import Asked
from flatfee.testing.scripting.script import Script

Handler = Callable[[Scope, Receive, Send], Awaitable[None]]

_KEY_SHOWN: Final = 4


@dataclass(slots=True)
class Front:
    """The ASGI app that is served. ``exchanges`` are the requests so far, in the order of their arrival.

    ``script`` says what happens between the gateway and its caller. ``beside`` serves paths that are
    not the gateway's own, by their first segment. While it ``is_down``, nobody may ask it.
    """

    app: App
    traffic: Traffic
    exchanges: Exchanges = field(default_factory=Exchanges)
    script: Script = field(default_factory=Script)
    beside: dict[str, Handler] = field(default_factory=dict)
    is_down: bool = False

    @property
    def gateway(self) -> object:
        """The gateway's state: the server looks for it here."""
        return self.app.gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        handler = self.beside.get(scope["path"].split("/", 2)[1])
        if handler is not None:
            await handler(scope, _hearing(self.traffic, receive), send)
            return
        exchange = self._noted(scope)
        enter(exchange)
        heard, said = _Heard(exchange, self.traffic, receive), _Said(exchange, self.exchanges, self.traffic, send)
        try:
            if exchange.is_completion and self.script.has_early:
                await self._serve_with_edges(scope, heard, said)
            else:
                await self.app(scope, heard, said)
        except asyncio.CancelledError:
            if not self.app.gateway.draining:
                raise
            # It is the last that happens to the request, and the server would log it as a crash.
        finally:
            if exchange.heard is not None:
                self.traffic.serving -= 1
            self.exchanges.done(exchange, self.traffic.clock.monotonic())

    async def _serve_with_edges(self, scope: Scope, heard: _Heard, said: _Said) -> None:
        """Hear the request first: what happens on the way may depend on all of it."""
        exchange, gateway = heard.exchange, self.app.gateway
        again = await _Again.of(heard, gateway.settings.server.max_body_bytes)
        if exchange.heard is not None:
            self.script.choose(_arrived(exchange))
        if exchange.edge is None:
            await self.app(scope, again, said)
            return

        async def answers(send: Send) -> None:
            await self.app(scope, again, send)

        line = Line(
            scope=scope,
            receive=heard,
            send=said,
            exchange=exchange,
            traffic=self.traffic,
            now=gateway.store.now(),
            new_id=gateway.new_id,
        )
        await serve(exchange.edge, line, answers)

    def _noted(self, scope: Scope) -> Exchange:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        exchange = Exchange(
            number=0,
            method=scope["method"],
            path=scope["path"],
            query=without_secrets(scope["query_string"].decode("latin-1")),
            headers={name: value for name, value in headers.items() if not is_secret(name)},
            arrived=self.traffic.clock.monotonic(),
            real=time.monotonic(),
            key=headers.get("authorization", "")[-_KEY_SHOWN:],
        )
        self.exchanges.add(exchange)
        scope[HANGS_UP] = lambda: self.exchanges.hung_up(exchange, self.traffic.clock.monotonic())
        return exchange


def _hearing(traffic: Traffic, receive: Receive) -> Receive:
    """Return a ``receive`` that lets no time be skipped before the body is whole."""
    whole = False

    async def hear() -> Message:
        nonlocal whole
        if whole:
            return await receive()
        with traffic.hearing():
            message = await receive()
        whole = not message.get("more_body", False)
        return message

    return hear


@dataclass(slots=True)
class _Heard:
    """``receive``, with what came noted. Until the body is whole the caller is talking."""

    exchange: Exchange
    traffic: Traffic
    receive: Receive

    async def __call__(self) -> Message:
        if self.exchange.heard is not None:
            return await self.receive()
        with self.traffic.hearing():
            message = await self.receive()
        if message["type"] == "http.request":
            self.exchange.body += message.get("body", b"")
            if not message.get("more_body", False):
                self.exchange.heard = self.traffic.clock.monotonic()
                self.traffic.serving += 1
        return message


@dataclass(slots=True)
class _Again:
    """``receive`` of what was heard already, and then of what comes."""

    heard: _Heard
    messages: deque[Message] = field(default_factory=deque)

    @classmethod
    async def of(cls, heard: _Heard, most: int) -> Self:
        """Hear a whole body, or somewhat more of it than the gateway takes."""
        again = cls(heard)
        while heard.exchange.heard is None and len(heard.exchange.body) <= most:
            again.messages.append(await heard())
            if again.messages[-1]["type"] != "http.request":
                break
        return again

    async def __call__(self) -> Message:
        return self.messages.popleft() if self.messages else await self.heard()


def _arrived(exchange: Exchange) -> Asked:
    """Return what a rule for the way to the caller sees: a request of which no route was asked yet."""
    body = exchange.json
    return Asked(
        number=exchange.number,
        attempt=0,
        nth=0,
        route="",
        tier="",
        model=str(body.get("model", "")),
        stream=body.get("stream") is True,
        upstream=b"",
        headers=exchange.headers,
        body=body,
    )


@dataclass(slots=True)
class _Said:
    """``send``, with what went noted. While a part is being taken the caller is talking."""

    exchange: Exchange
    exchanges: Exchanges
    traffic: Traffic
    send: Send

    async def __call__(self, message: Message) -> None:
        exchange = self.exchange
        with self.exchanges.noting():
            self._note(message)
        with self.traffic.saying():
            await self.send(message)
        exchange.unread_since = None
        last = message["type"] == "http.response.body" and not message.get("more_body", False)
        exchange.whole = last and not self._alone
        if exchange.whole:  # whoever has read the answer may ask what became of it: before the app returns
            self.exchanges.done(exchange, self.traffic.clock.monotonic())

    @property
    def _alone(self) -> bool:
        """Whether the caller has left: what is sent is dropped by the server without a word, or read by nobody."""
        if self.exchange.hung_up is not None and self.exchange.status is None:
            return True
        return getattr(getattr(self.send, "__self__", None), "disconnected", False) is True

    def _note(self, message: Message) -> None:
        if self._alone:
            return
        exchange, now = self.exchange, self.traffic.clock.monotonic()
        exchange.unread_since = now
        if message["type"] == "http.response.start":
            exchange.status = message["status"]
            exchange.response_headers = {
                name.decode("latin-1"): value.decode("latin-1") for name, value in message["headers"]
            }
            return
        if exchange.first_byte is None:
            exchange.first_byte = now
        exchange.keep(message["body"])
