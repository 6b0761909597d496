"""Where an answer goes: what uvicorn writes, as the caller's version of HTTP has it. No timers, no reading."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from flatfee.server.connections import GuardedConnection

_CHUNKED: Final = b"transfer-encoding: chunked\r\n"


class Outgoing:
    """The transport of one answer, as far as uvicorn uses it."""

    def __init__(self, connection: GuardedConnection) -> None:
        self._connection = connection
        self.is_closing = connection.transport.is_closing

    def write(self, data: bytes) -> None:
        """Write a head, or a part of a body."""
        self._connection.transport.write(data)

    def close(self) -> None:
        """End the connection, whose last answer is written."""
        self._connection.close_when_answered()


class OldOutgoing(Outgoing):
    """The same for HTTP/1.0, which knows no chunks: a body without a length ends with its connection."""

    def __init__(self, connection: GuardedConnection) -> None:
        super().__init__(connection)
        self._begun = False
        self._chunked = False

    def write(self, data: bytes) -> None:
        """Write what came without what makes it chunks; uvicorn writes one at a time, the last one with the end."""
        if not self._begun:
            self._begun, self._chunked = True, _CHUNKED in data
            data = data.replace(_CHUNKED, b"", 1)
        elif self._chunked and data:
            size, _, rest = data.partition(b"\r\n")
            data = rest[: int(size, 16)]
        super().write(data)
