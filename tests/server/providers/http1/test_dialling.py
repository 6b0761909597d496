"""How connections come about: look-ups, several addresses, TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop
from tests.server.fakes import until

from flatfee.server.providers.http1 import dialling
from flatfee.server.providers.http1.connection import READ_AT_ONCE, Connection
from flatfee.server.providers.http1.dialling import Dialler, _in_turn, _reach
from flatfee.server.providers.http1.target import Origin

V4, V6 = socket.AF_INET, socket.AF_INET6


def address(where: tuple[str, int], family: int = V4) -> tuple[int, int, int, str, tuple[Any, ...]]:
    return (family, socket.SOCK_STREAM, 0, "", where)


@contextmanager
def listening() -> Generator[tuple[str, int]]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(5)
        yield server.getsockname()


@contextmanager
def refusing() -> Generator[tuple[str, int]]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()


@contextmanager
def silent() -> Generator[tuple[str, int]]:
    """An address whose backlog is full."""
    with ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):
            queued = stack.enter_context(socket.socket())
            queued.setblocking(False)
            queued.connect_ex(full.getsockname())
        yield full.getsockname()


async def reached(*addresses: tuple[str, int]) -> tuple[str, int]:
    with await _reach(asyncio.get_running_loop(), [address(where) for where in addresses]) as connected:
        where: tuple[str, int] = connected.getpeername()
        return where


async def test_an_address_that_refuses_is_followed_by_the_next() -> None:
    with refusing() as no, listening() as yes:
        assert await reached(no, no, yes) == yes


async def test_an_address_that_is_silent_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialling, "STAGGER", 0.01)
    with silent() as no, listening() as yes:
        assert await reached(no, no, yes) == yes


async def test_no_address_that_answers_is_an_error() -> None:
    with refusing() as no, pytest.raises(ConnectionRefusedError):
        await reached(no, no)


async def test_who_gives_up_leaves_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialling, "STAGGER", 0.01)
    with silent() as no:
        before = handles()
        with suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await reached(no, no, no)
        await until(lambda: handles() == before)


async def test_of_two_addresses_that_answer_at_once_one_is_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    both = asyncio.Barrier(2)
    made: list[socket.socket] = []

    async def connect(*_: object) -> socket.socket:
        plug = socket.socket()
        made.append(plug)
        await both.wait()
        return plug

    monkeypatch.setattr(dialling, "STAGGER", 0.001)
    monkeypatch.setattr(dialling, "_connect", connect)
    addresses = [address(("127.0.0.1", 1)), address(("127.0.0.1", 2))]
    with await _reach(asyncio.get_running_loop(), addresses) as connected:
        await asyncio.sleep(0)
        assert [found.fileno() != -1 for found in made].count(True) == 1
        assert connected.fileno() != -1


def handles() -> int:
    """Count open sockets; loops keep other files of their own."""
    return sum(path.is_socket() for path in Path("/dev/fd").iterdir())


def test_families_take_turns() -> None:
    found = [address((host, 1), V6 if ":" in host else V4) for host in ("::1", "::2", "::3", "1.1.1.1")]
    assert [place[0] for *_, place in _in_turn(found)] == ["::1", "1.1.1.1", "::2", "::3"]


def test_a_host_without_address_is_an_error() -> None:
    with pytest.raises(OSError, match="has no address"):
        _in_turn([])


class LookUps:
    """A loop's look-ups, counted."""

    def __init__(self, port: int) -> None:
        self.count = 0
        self.fail = False
        self.answers = asyncio.Event()
        self.answers.set()
        self._port = port

    async def __call__(self, *_: object, **__: object) -> list[Any]:
        self.count += 1
        await asyncio.sleep(0)
        await self.answers.wait()
        if self.fail:
            raise socket.gaierror(socket.EAI_NONAME, "nobody")
        return [address(("127.0.0.1", self._port))]


async def test_one_look_up_serves_all_who_ask_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as (_, port):
        look_up = LookUps(port)
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
        dialler = Dialler(Origin(host="a.example", port=port, tls=False))
        asking = [asyncio.ensure_future(dialler.dial(Noted)) for _ in range(4)]
        await asyncio.sleep(0)
        asking[0].cancel()  # whose leaving is nothing to the others
        made = await asyncio.gather(*asking[1:])
        made.append(await dialler.dial(Noted))
        assert (len(made), look_up.count) == (4, 1)
        for protocol in made:
            protocol.transport.abort()


async def test_a_look_up_that_hangs_is_not_joined_by_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialling, "FRESH", 0.0)
    with listening() as (_, port):
        look_up = LookUps(port)
        look_up.answers.clear()
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
        dialler = Dialler(Origin(host="a.example", port=port, tls=False))
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await dialler.dial(Noted)
        assert look_up.count == 1
        look_up.answers.set()
        for _ in range(2):  # what it found in the end is told, and is old by then
            (await dialler.dial(Noted)).transport.abort()
        assert look_up.count == 2


async def test_a_look_up_that_failed_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as (_, port):
        look_up = LookUps(port)
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
        dialler = Dialler(Origin(host="a.example", port=port, tls=False))
        look_up.fail = True
        with pytest.raises(socket.gaierror):
            await dialler.dial(Noted)
        look_up.fail = False
        (await dialler.dial(Noted)).transport.abort()
        assert look_up.count == 2


async def test_addresses_that_no_longer_answer_are_looked_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with refusing() as (_, port):
        look_up = LookUps(port)
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
        dialler = Dialler(Origin(host="a.example", port=port, tls=False))
        for _ in range(2):
            with pytest.raises(ConnectionRefusedError):
                await dialler.dial(Noted)
        assert look_up.count == 2


async def test_a_name_that_can_be_none_is_not_found() -> None:
    with pytest.raises(OSError, match="cannot be a host's name"):
        await Dialler(Origin(host=f"{'ü' * 70}.example", port=1, tls=False)).dial(Noted)


class Noted(asyncio.Protocol):
    """A protocol that keeps its transport."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]  # uvloop's have no such base


async def _over_tls(name: str, *, trusted: bool) -> int:
    authority = trustme.CA()
    inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(inside)
    server = await asyncio.start_server(_answer, "127.0.0.1", 0, ssl=inside)
    async with server:
        dialler = Dialler(Origin(host=name, port=server.sockets[0].getsockname()[1], tls=True))
        dialler._trust = ssl.create_default_context()
        if trusted:
            authority.configure_trust(dialler._trust)
        loop, buffer = asyncio.get_running_loop(), memoryview(bytearray(READ_AT_ONCE))
        connection = await dialler.dial(lambda: Connection(loop, buffer, lambda _: None))
        size = 0
        for _ in range(2):
            await connection.ask(b"POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\n", b"{}")
            while data := await connection.take():
                size += len(data)
                await asyncio.sleep(0)
            assert connection.finish()
        connection.drop()
        return size


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while await reader.readuntil(b"{}"):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n" + b"x" * 1_000_000)
            await writer.drain()
    writer.close()


LOOPS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


@LOOPS
def test_a_certificate_for_the_name_is_trusted(run: Any) -> None:
    assert run(_over_tls("localhost", trusted=True)) == 2_000_000


@LOOPS
@pytest.mark.parametrize(("name", "trusted"), [("127.0.0.1", True), ("localhost", False)])
def test_a_certificate_for_another_name_or_of_a_stranger_is_not(run: Any, name: str, trusted: bool) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        run(_over_tls(name, trusted=trusted))


async def _hang_in_the_handshake() -> None:
    with listening() as (_, port):
        dialler = Dialler(Origin(host="127.0.0.1", port=port, tls=True))
        before = handles()
        for _ in range(3):
            with suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await dialler.dial(Noted)
        await until(lambda: handles() == before)


@LOOPS
def test_a_handshake_that_is_given_up_leaves_no_socket(run: Any) -> None:
    run(_hang_in_the_handshake())


def test_the_system_says_whom_to_trust_once() -> None:
    assert dialling.trust() is dialling.trust()
    assert dialling.trust().verify_mode is ssl.CERT_REQUIRED
    assert dialling.trust().check_hostname
