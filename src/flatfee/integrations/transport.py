"""Transports that look at the receipts of what passes, written once for ``httpx`` and ``httpx2``.

The modules of these names add the library's base classes; no library is named here. Bytes are handed
on as they came, and the wrapped transport keeps all that it does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, ClassVar, Final

from flatfee.client.capture import Capture
from flatfee.client.watching.callbacks import plain_function, tell
from flatfee.collecting import active
from flatfee.receipt import Receipt

EXTENSION: Final = "flatfee_receipt"
"""Where a response's ``extensions`` have its receipt: what the headers tell first, and all of it once it is closed."""

Listener = Callable[[Receipt], object]


class Passage:
    """One response on its way: its receipt goes to its ``extensions``, the run it began in, and the listener."""

    def __init__(self, response: Any, capture: Capture, listener: Listener | None) -> None:
        self.body = response.stream
        self.capture = capture
        self._extensions = response.extensions
        self._listener = listener
        self._run = active()
        self._over = False
        self._tell(capture.begun)

    def end(self) -> None:
        """Take note that the response is closed, read to its end or not. The listener hears once."""
        if self._over:
            return
        self._over = True
        receipt = self.capture.ended()
        self._tell(receipt)
        if self._listener is not None:
            tell("on_receipt", self._listener, receipt)

    def _tell(self, receipt: Receipt) -> None:
        self._extensions[EXTENSION] = receipt
        if self._run is not None:
            self._run.note(receipt)


class Body:
    """A body that is looked at while it is read."""

    def __init__(self, passage: Passage) -> None:
        self._passage = passage

    def __iter__(self) -> Iterator[bytes]:
        for data in self._passage.body:
            self._passage.capture.feed(data)
            yield data

    def close(self) -> None:
        """Close the body, and with it the account of the request."""
        try:
            self._passage.body.close()
        finally:
            self._passage.end()


class AsyncBody:
    """``Body`` for coroutines."""

    def __init__(self, passage: Passage) -> None:
        self._passage = passage

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for data in self._passage.body:
            self._passage.capture.feed(data)
            yield data

    async def aclose(self) -> None:
        """Close the body, and with it the account of the request."""
        try:
            await self._passage.body.aclose()
        finally:
            self._passage.end()


class Looking:
    """What both kinds of transport share. ``_body`` and ``_usual`` come from the library."""

    _body: ClassVar[Any]
    _usual: ClassVar[Any]

    def __init__(self, wrapped: Any = None, *, on_receipt: Listener | None = None) -> None:
        self._wrapped = type(self)._usual() if wrapped is None else wrapped
        self._listener = None if on_receipt is None else plain_function("on_receipt", on_receipt)

    def _look(self, response: Any) -> Any:
        capture = Capture.of(response.headers)
        if capture is None:
            return response
        passage = Passage(response, capture, self._listener)
        if response.is_closed:  # made in memory: its body will not be asked for
            capture.feed(response.content)
            passage.end()
        else:
            response.stream = self._body(passage)
        return response


class Transport(Looking):
    """Sends through the wrapped transport."""

    def handle_request(self, request: Any) -> Any:
        """Return the wrapped transport's response, looked at."""
        return self._look(self._wrapped.handle_request(request))

    def close(self) -> None:
        """Close the wrapped transport."""
        self._wrapped.close()


class AsyncTransport(Looking):
    """``Transport`` for coroutines."""

    async def handle_async_request(self, request: Any) -> Any:
        """Return the wrapped transport's response, looked at."""
        return self._look(await self._wrapped.handle_async_request(request))

    async def aclose(self) -> None:
        """Close the wrapped transport."""
        await self._wrapped.aclose()
