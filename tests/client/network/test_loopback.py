"""Over real sockets: connections are given back, and every way a server misbehaves has a name."""

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from flatfee import APIConnectionError, APITimeoutError, AsyncClient, Client, Timeout

EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":%s}]}\n\n'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


WHOLE = HEAD + chunk(EVENT % b'"stop"') + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
CUT = HEAD + chunk(EVENT % b"null")


class Server:
    """Answers every request on a connection with ``reply``, and hangs up after an unfinished one."""

    def __init__(self) -> None:
        self.reply = WHOLE
        self.connections = 0
        self.heads: list[bytes] = []
        self.released = threading.Event()
        self.hold = False
        self.chatter = b""
        self.greeting = b""
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/v1"
        self.threads = [threading.Thread(target=self.accept)]
        self.threads[0].start()

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.connections += 1
            self.threads.append(threading.Thread(target=self.serve, args=(connection,)))
            self.threads[-1].start()

    def serve(self, connection: socket.socket) -> None:
        with connection:
            connection.sendall(self.greeting)
            while b"messages" in self.request(connection):
                connection.sendall(self.reply)
                if self.hold:
                    self.released.wait(30)
                while self.chatter and self.sent(connection, self.chatter):
                    pass
                if not self.reply.endswith(b"0\r\n\r\n"):
                    return

    def sent(self, connection: socket.socket, data: bytes) -> bool:
        """Send ``data``, and tell whether anyone was there to take it."""
        try:
            connection.sendall(data)
        except OSError:
            return False
        return not self.released.is_set()

    def request(self, connection: socket.socket) -> bytes:
        """Read one request; all of them end with the list of messages."""
        data = b""
        while not data.endswith(b"}"):
            try:
                more = connection.recv(65536)
            except OSError:
                return b""
            if not more:
                return b""
            data += more
        self.heads.append(data.partition(b"\r\n\r\n")[0])
        return data

    def close(self) -> None:
        self.released.set()
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for thread in self.threads:
            thread.join(10)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


ASK: Any = {"model": "auto", "messages": [{"role": "user", "content": "hi"}], "stream": True}


def test_a_stream_read_to_its_end_gives_its_connection_back(server: Server) -> None:
    with Client(api_key="k", base_url=server.url) as client:
        for _ in range(3):
            assert len(list(client.chat.completions.create(**ASK))) == 1
        assert server.connections == 1


async def test_so_it_does_for_coroutines(server: Server) -> None:
    async with AsyncClient(api_key="k", base_url=server.url) as client:
        for _ in range(3):
            stream: Any = await client.chat.completions.create(**ASK)
            assert len([chunk async for chunk in stream]) == 1
        assert server.connections == 1


def test_a_server_that_hangs_up_in_mid_stream_is_a_connection_error(server: Server) -> None:
    server.reply = CUT
    with Client(api_key="k", base_url=server.url) as client:
        stream: Any = client.chat.completions.create(**ASK)
        next(stream)
        with pytest.raises(APIConnectionError, match="RemoteProtocolError"):
            next(stream)


@pytest.mark.slow
async def test_a_server_that_falls_silent_is_a_timeout(server: Server) -> None:
    server.reply, server.hold = CUT, True
    async with AsyncClient(api_key="k", base_url=server.url, timeout=Timeout(read=2.0)) as client:
        stream: Any = await client.chat.completions.create(**ASK)
        await anext(stream)
        with pytest.raises(APITimeoutError, match="ReadTimeout"):
            await anext(stream)


def test_a_stream_that_is_left_early_does_not_block_the_next_call(server: Server) -> None:
    server.reply, server.hold = CUT, True
    with Client(api_key="k", base_url=server.url) as client:
        with client.chat.completions.create(**ASK) as stream:
            next(stream)
        server.reply, server.hold = WHOLE, False
        assert len(list(client.chat.completions.create(**ASK))) == 1
        assert server.connections == 2


def test_a_refused_connection_is_named_without_a_wait(server: Server) -> None:
    waits: list[float] = []
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (
        Client(api_key="k", base_url=f"http://127.0.0.1:{port}", sleep=waits.append) as client,
        pytest.raises(APIConnectionError, match=rf":{port} failed \(ConnectError: .*Connection refused"),
    ):
        client.chat.completions.create(**ASK)
    assert len(waits) == 2


async def test_what_the_system_or_tls_said_is_told(server: Server) -> None:
    server.greeting = b"not TLS at all\r\n"
    for url, says in (
        (server.url.replace("http://", "https://"), "ConnectError: .*SSL"),
        ("http://no-such-host.invalid/v1", r"ConnectError: \[Errno -\d+\]"),
    ):
        with Client(api_key="k", base_url=url, max_retries=0) as client, pytest.raises(APIConnectionError, match=says):
            client.usage.retrieve()
        async with AsyncClient(api_key="k", base_url=url, max_retries=0) as aclient:
            with pytest.raises(APIConnectionError, match=says):
                await aclient.usage.retrieve()


def test_a_server_that_never_ends_a_whole_answer_does_not_hold_the_loop(server: Server) -> None:
    server.reply, server.hold = WHOLE.removesuffix(b"0\r\n\r\n"), True
    with Client(api_key="k", base_url=server.url) as client:
        stream: Any = client.chat.completions.create(**ASK)
        assert len(list(stream)) == 1
        assert not server.released.is_set(), "the server still holds the connection"
        assert stream.response.is_closed


async def test_nor_does_it_hold_the_coroutine(server: Server) -> None:
    server.reply, server.hold = WHOLE.removesuffix(b"0\r\n\r\n"), True
    async with AsyncClient(api_key="k", base_url=server.url, timeout=None) as client:
        stream: Any = await client.chat.completions.create(**ASK)
        assert len([chunk async for chunk in stream]) == 1
        assert not server.released.is_set(), "the server still holds the connection"
        assert stream.response.is_closed


def test_a_server_that_goes_on_talking_after_the_answer_is_left(server: Server) -> None:
    server.reply = WHOLE.removesuffix(b"0\r\n\r\n")
    server.chatter = chunk(b": still here\n\n")
    with Client(api_key="k", base_url=server.url) as client:
        assert len(list(client.chat.completions.create(**ASK))) == 1
        assert not server.released.is_set()


@pytest.mark.slow
async def test_a_deadline_ends_a_call_whatever_the_timeout(server: Server) -> None:
    server.reply, server.hold = b"", True
    ask = ASK | {"stream": False, "deadline": 0.05}
    with Client(api_key="k", base_url=server.url) as client, pytest.raises(APITimeoutError, match=r"deadline of 0\.05"):
        client.chat.completions.create(**ask)
    async with AsyncClient(api_key="k", base_url=server.url) as aclient:
        with pytest.raises(APITimeoutError, match=r"deadline of 0\.05"):
            await aclient.chat.completions.create(**ask)
    assert server.connections == 2


async def test_cookies_are_left_where_they_are(server: Server) -> None:
    """A gateway sets none; what stands before it may, and need not know who calls again."""
    server.reply = WHOLE.replace(b"content-type", b"set-cookie: seen=1; path=/\r\ncontent-type", 1)
    with Client(api_key="k", base_url=server.url) as client:
        for _ in range(2):
            list(client.chat.completions.create(**ASK))
    async with AsyncClient(api_key="k", base_url=server.url) as aclient:
        for _ in range(2):
            assert [chunk async for chunk in await aclient.chat.completions.create(**ASK)]
    assert len(server.heads) == 4
    assert not [head for head in server.heads if b"cookie" in head.lower()]
