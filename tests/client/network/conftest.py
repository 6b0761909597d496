"""Gateways made of sockets on loopback, which answer as a test tells them.

Here is what only connections can show: time, hanging up, cancelling, event loops, threads and processes.
"""

import contextlib
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
    b"x-flatfee-request-id: req_1\r\ntransfer-encoding: chunked\r\n\r\n"
)
END = b"0\r\n\r\n"
ANSWER = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]}
PATIENCE = 30.0
"""Seconds after which a gateway gives up whatever it does, so that a test that fails ends."""


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(finish: str | None = None, **delta: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return chunk(b"data: %s\n\n" % json.dumps({"choices": [choice]}).encode())


class Peer:
    """One request, as its gateway sees it. ``gone`` is whether the client hung up."""

    def __init__(self, connection: socket.socket, request: bytes) -> None:
        self.connection = connection
        self.request = request
        self.gone = False

    def send(self, *parts: bytes) -> bool:
        """Send the parts; tell whether the client was there to take them."""
        try:
            for part in parts:
                self.connection.sendall(part)
        except OSError:
            self.gone = True
        return not self.gone

    def wait(self) -> None:
        """Wait until the client hangs up."""
        try:
            self.gone = not self.connection.recv(1)
        except TimeoutError:
            pass
        except OSError:
            self.gone = True

    def drip(self, part: bytes) -> None:
        """Send a part over and over, until the client hangs up."""
        self.connection.settimeout(0.01)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and not self.gone and self.send(part):
            try:
                self.gone = not self.connection.recv(1)
            except TimeoutError:
                pass
            except OSError:
                self.gone = True

    def stream(self, *parts: bytes) -> None:
        self.send(b"".join((HEAD, *parts)))  # together, so that no pause of a busy machine comes between them

    def whole(self) -> None:
        """Answer whatever was asked for."""
        if b'"stream":true' in self.request:
            self.stream(event(content="hi"), event("stop"), chunk(b"data: [DONE]\n\n"), END)
        else:
            body = json.dumps(ANSWER).encode()
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            self.send(head % len(body), body)


Reply = Callable[[Peer], None]


class Gateway:
    """Answers each request with the next of ``replies``, and for ever with the last."""

    def __init__(self, context: ssl.SSLContext | None = None, path: Path | None = None) -> None:
        self.replies: list[Reply] = [Peer.whole]
        self.peers: list[Peer] = []
        self.connections = 0
        self.reached = threading.Event()
        """A request came in."""
        self._context = context
        self._changed = threading.Condition()
        self._open: set[socket.socket] = set()
        if path is None:
            self._socket = socket.create_server(("127.0.0.1", 0))
            self.port: int = self._socket.getsockname()[1]
            self.url = f"{'https' if context else 'http'}://localhost:{self.port}/v1".replace(
                "localhost", "localhost" if context else "127.0.0.1"
            )
        else:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.bind(str(path))
            self._socket.listen()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def open(self) -> int:
        return len(self._open)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until something is true of this gateway."""
        with self._changed:
            assert self._changed.wait_for(condition, PATIENCE)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE)
        with contextlib.ExitStack() as stack:
            stack.enter_context(connection)
            if self._context:
                try:
                    connection = stack.enter_context(self._context.wrap_socket(connection, server_side=True))
                except OSError:
                    return
            with self._changed:
                self.connections += 1
                self._open.add(connection)
                self._changed.notify_all()
            stack.callback(self._left, connection)
            while (request := _read(connection)) is not None:
                self._answer(Peer(connection, request))

    def _answer(self, peer: Peer) -> None:
        with self._changed:
            reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
            self.peers.append(peer)
            self._changed.notify_all()
        self.reached.set()
        reply(peer)
        with self._changed:
            self._changed.notify_all()

    def _left(self, connection: socket.socket) -> None:
        with self._changed:
            self._open.discard(connection)
            self._changed.notify_all()


def _read(connection: socket.socket) -> bytes | None:
    """Return the next request, or ``None`` when the client has hung up."""
    data = b""
    while True:
        head, found, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        if found and len(body) >= (int(length[1]) if length else 0):
            return data
        try:
            more = connection.recv(65536)
        except OSError:
            return None
        if not more:
            return None
        data += more


@pytest.fixture
def serve() -> Iterator[Callable[..., Gateway]]:
    """Return a factory of gateways: ``serve(reply, …)``, closed at the end of the test."""
    opened: list[Gateway] = []

    def make(*replies: Reply, **options: Any) -> Gateway:
        gateway = Gateway(**options)
        gateway.replies = list(replies) or gateway.replies
        opened.append(gateway)
        return gateway

    yield make
    for gateway in opened:
        gateway.close()


@pytest.fixture
def little_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a deadline end a call soon after it passed."""
    monkeypatch.setattr("flatfee.client.limits.ANSWER_GRACE", 0.02)


@pytest.fixture
def make_event() -> Callable[..., bytes]:
    return event


@pytest.fixture
def make_chunk() -> Callable[[bytes], bytes]:
    return chunk
