"""The reference: the least that a Python reverse proxy on the same stack can do.

uvicorn in front, aiohttp behind, bytes passed through. No authentication, no policy, no ledger,
no receipt, no error handling: what the gateway costs beyond this is the price of those.
"""

from __future__ import annotations

import argparse
from typing import Any

import aiohttp
import uvicorn

_HOP_HEADERS = frozenset({b"host", b"connection", b"content-length", b"transfer-encoding", b"accept-encoding"})


class BareProxy:
    """An ASGI application that forwards every request to ``upstream``."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Dispatch by scope type."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._forward(scope, receive, send)

    async def _live(self, receive: Any, send: Any) -> None:
        await receive()
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
            self._session = session
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _forward(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        assert self._session is not None
        headers = [(name.decode(), value.decode()) for name, value in scope["headers"] if name not in _HOP_HEADERS]
        body = await _whole_body(receive)
        url = self._upstream + scope["path"]
        async with self._session.request(scope["method"], url, data=body, headers=headers) as answer:
            await send({"type": "http.response.start", "status": answer.status, "headers": _kept(answer)})
            if answer.content_length is not None:
                await send({"type": "http.response.body", "body": await answer.read()})
                return
            async for data in answer.content.iter_any():
                await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


async def _whole_body(receive: Any) -> bytes:
    body: bytes = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


def _kept(answer: aiohttp.ClientResponse) -> list[tuple[bytes, bytes]]:
    """Return the answer's headers without those that belong to one connection; keep its length."""
    kept = [(name.lower(), value) for name, value in answer.raw_headers]
    return [item for item in kept if item[0] == b"content-length" or item[0] not in _HOP_HEADERS]


def main() -> None:
    """Run as a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True, help="base URL without a path")
    options = parser.parse_args()
    uvicorn.run(
        BareProxy(options.upstream),
        host="127.0.0.1",
        port=options.port,
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
