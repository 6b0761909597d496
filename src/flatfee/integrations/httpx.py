"""Transports for ``httpx`` clients that find the receipt of every response, whatever framework reads it.

    client = httpx.Client(transport=ReceiptTransport(on_receipt=print))

A receipt goes to the ``flatfee.receipts()`` around the call, to ``on_receipt`` when the response is closed,
and to ``response.extensions["flatfee_receipt"]``. With a compressed body it tells what the headers tell.
"""

from __future__ import annotations

import httpx

from flatfee.integrations import transport
from flatfee.integrations.transport import Listener

__all__ = ["AsyncReceiptTransport", "ReceiptTransport"]


class _Body(transport.Body, httpx.SyncByteStream):
    """A body of ``httpx``."""


class _AsyncBody(transport.AsyncBody, httpx.AsyncByteStream):
    """A body of ``httpx`` for coroutines."""


class ReceiptTransport(transport.Transport, httpx.BaseTransport):
    """A transport for ``httpx.Client`` around another one.

    Args:
        wrapped: what sends; else a new ``httpx.HTTPTransport``. Certificates, proxies and limits are set there.
        on_receipt: called with the receipt of each response of a gateway when it is closed. A plain function that
            does not wait; what it raises is logged, and changes nothing.

    Raises:
        ConfigurationError: ``on_receipt`` is no plain function.
    """

    _body = _Body
    _usual = httpx.HTTPTransport

    def __init__(self, wrapped: httpx.BaseTransport | None = None, *, on_receipt: Listener | None = None) -> None:
        super().__init__(wrapped, on_receipt=on_receipt)


class AsyncReceiptTransport(transport.AsyncTransport, httpx.AsyncBaseTransport):
    """``ReceiptTransport`` for ``httpx.AsyncClient``."""

    _body = _AsyncBody
    _usual = httpx.AsyncHTTPTransport

    def __init__(self, wrapped: httpx.AsyncBaseTransport | None = None, *, on_receipt: Listener | None = None) -> None:
        super().__init__(wrapped, on_receipt=on_receipt)
