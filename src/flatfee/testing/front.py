"""What stands around the gateway's app: it notes every request, and breaks connections where a script says so.

The app itself is the production one, and knows nothing of it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from flatfee.server.app import App
from flatfee.server.call import Message, Receive, Scope, Send
from flatfee.testing.exchange import Exchange, Exchanges, enter, is_secret, without_secrets
from flatfee.testing.loop import Traffic

Handler = Callable[[Scope, Receive, Send], Awaitable[None]]

_KEY_SHOWN: Final = 4


@dataclass(slots=True)
class Front:
    """The ASGI app that is served. ``exchanges`` are the requests so far, in the order of their arrival.

    ``beside`` serves paths that are not the gateway's own, by their first segment.
    """

    app: App
    traffic: Traffic
    exchanges: Exchanges = field(default_factory=Exchanges)
    beside: dict[str, Handler] = field(default_factory=dict)

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
            await handler(scope, receive, send)
            return
        exchange = self._noted(scope)
        enter(exchange)
        try:
            said = _Said(exchange, self.exchanges, self.traffic, send)
            await self.app(scope, _Heard(exchange, self.traffic, receive), said)
        finally:
            if exchange.heard is not None:
                self.traffic.serving -= 1
            self.exchanges.done(exchange, self.traffic.clock.monotonic())

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
        return exchange


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
        """Whether the caller has left. The server drops what is sent to it then, without a word."""
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
