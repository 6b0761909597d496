"""One connection: the order of requests and answers on it, and its bounds.

A request's head and everything else that is not a body is bounded in bytes and time while it arrives, requests
sent ahead in number. What is no HTTP is refused here in our envelope, after the answers to what came before it.
What leaves is bounded in ``departure``; what a whole request may say is the app's part.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

import httptools
import uvicorn
from uvicorn.protocols.utils import get_local_addr, get_remote_addr
from uvicorn.server import ServerState

from flatfee.server.call import BODY_SECONDS, Scope
from flatfee.server.faults import Fault, answer_alone
from flatfee.server.http.departure import Departure
from flatfee.server.http.exchange import Exchange
from flatfee.server.http.framing import head
from flatfee.server.http.reader import BETWEEN, BODY, MAX_REQUEST_LINE, Reader
from flatfee.server.http.timer import Later, Limit, Now
from flatfee.wire import ErrorCode

log = logging.getLogger("flatfee.server")

HEAD_SECONDS: Final = 30.0
"""A request's head gets this long."""

LINGER_SECONDS: Final = 5.0
"""After a refusal a connection is read for this long: closing it at once could destroy the answer on its way."""

HALF_CLOSED_SECONDS: Final = 0.5
"""Who said that it sends no more gets an answer that is there within this time. Most who say so have left."""

MAX_AHEAD: Final = 16
"""So many requests may wait behind the one that is served on their connection."""

READ_AHEAD: Final = 64 * 1024
"""So many bytes of bodies may wait to be asked for before no more are read."""

_CRASHED: Final = head(500, [(b"content-length", b"0"), (b"connection", b"close")])


class GuardedConnection(asyncio.Protocol):
    """A connection that neither holds memory nor time for a caller beyond fixed bounds.

    ``arrival`` limits what the caller owes, and how long a connection may rest; ``departure`` sees to the bytes
    that wait for the caller. Neither limits a request that runs.
    """

    __slots__ = (
        *("_ahead", "_app", "_deaf", "_gateway", "_heard_end", "_held", "_keep_alive", "_loop", "_most", "_paused"),
        *("_reader", "_refusal", "_resting", "_serving", "_state", "arrival", "departure", "tasks", "transport"),
    )

    transport: asyncio.Transport
    departure: Departure

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        del app_state  # the app keeps its own
        self._app: Any = config.loaded_app
        self._gateway = config.app.gateway  # type: ignore[union-attr]  # an App, or what stands around one
        self._most = self._gateway.settings.server.max_header_bytes + MAX_REQUEST_LINE
        self._keep_alive = config.timeout_keep_alive
        self._loop = _loop or asyncio.get_running_loop()
        self._state = server_state
        self._held = 0  # bytes of bodies that wait to be asked for
        self._paused = False
        self._serving: Exchange | None = None
        self._ahead: list[tuple[Exchange, Scope]] = []
        self._refusal: Fault | None = None
        self._deaf = False
        self._heard_end = False
        self._resting = False
        self.tasks = server_state.tasks
        later, now = self._time()
        self.arrival = Limit(later, now, self._too_late)

    def _time(self) -> tuple[Later, Now]:
        """Return the clock that callers have to go by."""
        return self._loop.call_later, self._loop.time

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # what a server makes
        """Wait for a first request."""
        self.transport = transport
        self._state.connections.add(self)  # type: ignore[arg-type]  # uvicorn asks for no more than shutdown()
        self._reader = Reader(self, {"server": get_local_addr(transport), "client": get_remote_addr(transport)})
        self.departure = Departure(transport, self._time()[0])
        self.arrival.set(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the request that is served, and let go of everything."""
        del exc
        self._state.connections.discard(self)
        self.arrival.end()
        self._ahead.clear()
        if self._serving is not None and not self._serving.over:
            self._serving.leave()
        self.departure.end()
        self._serving = None
        self._reader.end()

    def data_received(self, data: bytes) -> None:
        """Read what came, within the bounds."""
        if self._deaf or self._refusal is not None:
            return
        if self._resting:
            self._resting = False
            self.arrival.until = None
        reader = self._reader
        reader.loose += len(data)
        try:
            reader.feed(data)
        except httptools.HttpParserError as error:
            self._refuse(_fault_of(error))
            return
        if reader.loose > self._most:
            self._refuse(_too_large(self._gateway.settings.server.max_header_bytes))
        elif reader.owed:
            if self.arrival.until is None:
                self.arrival.set(HEAD_SECONDS)
        elif self.arrival.until is not None and not reader.unread:
            if self._busy():
                self.arrival.until = None
            else:
                self._rest()

    def eof_received(self) -> bool:
        """Hear that the caller sends no more; it may still read."""
        self._heard_end = True
        if self._deaf:
            return False
        if self._reader.part is not BETWEEN and self._refusal is None and not self._reader.unread:
            self._refuse(Fault(ErrorCode.INVALID_REQUEST, "The request ended before it was whole; send all of it."))
        elif not self._busy():
            return False
        if self._busy():
            self.arrival.set(HALF_CLOSED_SECONDS)
        return True

    # What comes

    def take_on(self, exchange: Exchange, scope: Scope) -> None:
        """Begin a request, or let it wait for those before it.

        Raises:
            Fault: too many wait already.
        """
        if not self._busy():
            self._begin(exchange, scope)
        elif len(self._ahead) < MAX_AHEAD:
            self._ahead.append((exchange, scope))
        else:
            raise Fault(
                ErrorCode.INVALID_REQUEST, f"More than {MAX_AHEAD} requests were sent ahead; wait for their answers."
            )

    def holds(self, size: int) -> None:
        """Note that so many bytes of bodies wait to be asked for, and read no more if they are too many."""
        self._held += size
        if self._held > READ_AHEAD and not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def _begin(self, exchange: Exchange, scope: Scope) -> None:
        self._serving = exchange
        exchange.task = task = self._loop.create_task(exchange.run(self._app, scope))
        self.tasks.add(task)

    def took(self, size: int) -> None:
        """Note that so many bytes of bodies wait no more."""
        self._held -= size
        if self._paused and self._held <= READ_AHEAD:
            self.read_on()

    def read_on(self) -> None:
        """Read from the caller, if that was paused."""
        if self._paused:
            self._paused = False
            self.transport.resume_reading()

    def answered(self, exchange: Exchange) -> None:
        """Go on with what waits: the next request, a refusal, the rest of a body, the caller's end."""
        if not exchange.keep_alive:
            self._close_when_answered(exchange)
        if self.transport.is_closing():
            return
        self.took(exchange.held)
        if self._ahead:
            self._begin(*self._ahead.pop(0))
        elif self._deaf:
            return
        elif self._refusal is not None:
            self._say(self._refusal)
        elif self._heard_end:
            self._close_when_taken()
        elif self._reader.unread:
            self.arrival.set(BODY_SECONDS)
        else:
            self._rest()

    def crashed(self, exchange: Exchange, error: Exception) -> None:
        """End the connection of a request that the app failed to answer. What the gateway refuses is no failure."""
        log.error("connection.crashed", exc_info=error)
        if exchange.over or exchange.disconnected or self.transport.is_closing():
            return
        if not exchange.started:
            self.transport.write(_CRASHED)
        exchange.over = True
        self._close_when_answered(exchange)

    def _rest(self) -> None:
        self._resting = True
        self.arrival.set(self._keep_alive)

    def _close_when_answered(self, exchange: Exchange) -> None:
        """End the connection behind an answer that is its last, whose request may go on."""
        if exchange.more_body and not self.transport.is_closing():
            self._close_when_heard()
        else:
            self._close_when_taken()

    def _close_when_taken(self) -> None:
        """Close the connection once what waits for the caller has left, or does not leave."""
        self.arrival.until = None
        self.transport.close()
        self.departure.look_out()

    def _close_when_heard(self) -> None:
        """Say no more, hear what the caller still sends, and close the connection then."""
        self._deaf = True
        if self._heard_end:
            self._close_when_taken()
            return
        self.read_on()
        self.transport.write_eof()
        self.arrival.set(LINGER_SECONDS)

    # Refusals

    def _refuse(self, fault: Fault) -> None:
        """Read no more, and refuse what came last, after the answers to what came before."""
        self._refusal = fault
        self.arrival.until = None
        if self._reader.part is BODY and self._reader.last is not None:
            self._take_back(self._reader.last)
        if not self._busy() and not self._deaf:
            self._say(fault)

    def _take_back(self, broken: Exchange) -> None:
        """Take back a request whose body is broken, as far as it was served."""
        if broken is not self._serving:
            self._ahead.pop()
        elif broken.over:
            self._close_when_heard()
        elif broken.started:
            broken.keep_alive = False
        else:
            broken.leave()
            self._serving = None

    def _say(self, fault: Fault) -> None:
        now = self._gateway.store.now()
        known: str = self._gateway.new_id(now)
        log.info("connection.refused", extra={"request_id": known, "code": fault.code})
        self.transport.write(answer_alone(fault, known, now))
        self._close_when_heard()

    def _busy(self) -> bool:
        return self._serving is not None and not self._serving.over

    def _too_late(self) -> None:
        if self._deaf or self._heard_end or self._reader.unread:
            self.transport.abort()
        elif self._reader.part is BETWEEN:  # empty lines are no head, and some send one behind a body
            if not self._busy() and not self.transport.is_closing():
                self._close_when_taken()
        else:
            self._refuse(
                Fault(ErrorCode.INVALID_REQUEST, f"The headers did not arrive within {HEAD_SECONDS:.0f} seconds.")
            )

    # What the way out does

    def pause_writing(self) -> None:
        """See whether the caller reads."""
        self.departure.pause()

    def resume_writing(self) -> None:
        """See that it does."""
        self.departure.resume()

    def shutdown(self) -> None:
        """End what is not served, and keep what is no longer than it takes."""
        last = self._reader.last
        if last is None or last.over or self._deaf:
            self.transport.close()
        else:
            last.keep_alive = False


def _fault_of(error: httptools.HttpParserError) -> Fault:
    if isinstance(error.__context__, Fault):
        return error.__context__
    return Fault(ErrorCode.INVALID_REQUEST, "This is not a valid HTTP/1.1 request; the connection is closed.")


def _too_large(most: int) -> Fault:
    return Fault(ErrorCode.HEADERS_TOO_LARGE, f"The headers exceed {most} bytes; send less.")
