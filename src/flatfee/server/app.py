"""Composition root: settings → gateway → ASGI app. Everything is built here."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from flatfee.server.call import Call, Receive, Scope, Send
from flatfee.server.faults import CallerGone, Fault
from flatfee.server.filed import filed_accounts
from flatfee.server.gateway import Gateway
from flatfee.server.housekeeping import keep_house
from flatfee.server.origins import answer_preflight, check_origin, is_preflight
from flatfee.server.peers import answering_peers
from flatfee.server.providers.base import Provider
from flatfee.server.providers.registry import make_providers
from flatfee.server.reload.reloader import reloader_of
from flatfee.server.reload.source import Source
from flatfee.server.routes import find
from flatfee.server.settings import ServerSettings, Settings
from flatfee.server.store.base import Store, StoreDown
from flatfee.server.store.memory import MemoryStore
from flatfee.server.store.sqlite import SqliteStore
from flatfee.server.worker import ALONE, Worker
from flatfee.wire import REQUEST_HEADERS, ErrorCode

log = logging.getLogger("flatfee.server")

_LAST_WORD_SECONDS: Final = 1.0
"""Who does not read is not told that the gateway ends."""

_CODING: Final = frozenset({b"transfer-encoding"})
_ONCE: Final = frozenset({b"host", *(name.lower().encode() for name in REQUEST_HEADERS)})
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
"""RFC 9110, 7.2. What it says is used for nothing."""


def open_store(settings: ServerSettings, worker: Worker = ALONE) -> Store:
    """Open the store that ``[server] store`` names, for one of the processes that share it.

    Raises:
        StoreDown: it cannot be opened.
    """
    if settings.store == "memory://":
        return MemoryStore()
    path = Path(settings.store.removeprefix("sqlite:///"))
    with suppress(OSError):  # a place where it cannot be made is told by what opens it
        path.touch(mode=0o600)  # SQLite gives its other files the mode of this one
    return SqliteStore(path, durability=settings.durability, crowded=worker.count > 1)


def create_app(
    settings: Settings,
    *,
    store: Store | None = None,
    providers: Mapping[str, Provider] | None = None,
    worker: Worker = ALONE,
    operator: str | None = None,
    source: Source | None = None,
) -> App:
    """Build the gateway's ASGI app. ``store`` and ``providers`` stand in for the configured ones.

    ``source`` is where the settings were read, if they can be read there again while it runs.
    ``worker`` says which of several processes it is built in. With an ``operator`` the admin API asks
    for no key, and the audit log names that one instead. It is for an app that is called in this
    process by who may write the ledger anyway: never serve it.
    """
    gateway = Gateway(
        settings=settings,
        store=store or open_store(settings.server, worker),
        providers=providers if providers is not None else make_providers(settings.providers),
        worker=worker,
        operator=operator,
    )
    if source is not None:
        gateway.reloading = reloader_of(gateway, source)
    return App(gateway)


class App:
    """The ASGI app. Serve it with any ASGI server, or in memory within ``async with app.running()``."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            message = f"the gateway speaks HTTP only, not {scope['type']!r}"
            raise RuntimeError(message)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[App, None]:
        """Start what works in the background, and end it: accounts of the file, heartbeats, sweeps."""
        gateway = self.gateway
        async with AsyncExitStack() as ends:
            ends.push_async_callback(gateway.store.close)
            ends.push_async_callback(gateway.close_providers)
            await gateway.store.provision(filed_accounts(gateway.settings))
            await ends.enter_async_context(answering_peers(gateway.worker, gateway.told_to_peers))
            keeper = asyncio.create_task(keep_house(gateway))
            ends.push_async_callback(_cancelled, keeper)
            yield self

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        gateway = self.gateway
        now = gateway.store.now()
        call = Call(scope, receive, send, gateway.new_id(now), now)
        epoch = gateway.begin()
        try:
            _guard(call, gateway)
            if is_preflight(call):
                await answer_preflight(call)
            else:
                await find(call.method, call.path)(call, gateway)
        except CallerGone:
            log.info("caller.gone", extra={"request_id": call.request_id})
        except asyncio.CancelledError:
            await _tell_of_the_end(call)
            raise
        except Exception as error:  # noqa: BLE001 - faults.py turns every exception into a wire error
            with suppress(CallerGone):
                await call.fail(error)
        finally:
            gateway.end(epoch)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            async with self.running():
                await send({"type": "lifespan.startup.complete"})
                await receive()
        except StoreDown as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.shutdown.complete"})


async def _tell_of_the_end(call: Call) -> None:
    """Tell a caller that the gateway ends before its answer does: an answer ends whole, or with an error."""
    if not call.over:
        ended = Fault(ErrorCode.GATEWAY_OVERLOADED, "The gateway was shut down before the answer was whole.")
        with suppress(CallerGone, TimeoutError):
            async with asyncio.timeout(_LAST_WORD_SECONDS):
                await call.fail(ended)


def _guard(call: Call, gateway: Gateway) -> None:
    """Refuse what no endpoint may see."""
    server = gateway.settings.server
    if call.header_bytes() > server.max_header_bytes:
        raise Fault(ErrorCode.HEADERS_TOO_LARGE, f"The headers exceed {server.max_header_bytes} bytes; send less.")
    twice = call.sent_twice(_ONCE)
    if twice is not None:
        raise Fault(ErrorCode.INVALID_REQUEST, f"{twice} was sent more than once; send it once.", param=twice)
    _check_framing(call)
    check_origin(call, server.allowed_origins)
    if call.path.startswith("/health/"):
        return
    if gateway.draining:
        call.tell({"connection": "close"})  # so that the next request goes to who can serve it
        raise Fault(ErrorCode.GATEWAY_OVERLOADED, "The gateway is shutting down; try again shortly.", retry_after=5)
    if gateway.active > gateway.worker.share(server.max_requests):
        raise Fault(ErrorCode.GATEWAY_OVERLOADED, f"The gateway serves {server.max_requests} requests at once; wait.")


def _check_framing(call: Call) -> None:
    """Refuse what RFC 9112 (3.2, 6.1) has a server refuse: whoever stands in front of us may read it otherwise."""
    host = call.headers.get(b"host")
    coding = call.headers.get(b"transfer-encoding")
    if call.http_version not in {"1.0", "1.1"}:
        wrong = "Only HTTP/1.0 and HTTP/1.1 are spoken here."
    elif host is None and call.http_version == "1.1":
        wrong = "The Host header is missing; HTTP/1.1 asks for it."
    elif host is not None and not _HOST.fullmatch(host):
        wrong = "The Host header is not a host and a port; send it so."
    elif coding is not None and (
        coding.lower() != b"chunked" or call.http_version == "1.0" or call.sent_twice(_CODING) is not None
    ):
        wrong = "The only Transfer-Encoding is 'chunked', in HTTP/1.1."
    else:
        return
    call.tell({"connection": "close"})
    raise Fault(ErrorCode.INVALID_REQUEST, wrong)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
