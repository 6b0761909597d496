"""The OpenAI adapter against upstreams that do what they should not: all fail cleanly and leave nothing."""

from __future__ import annotations

import asyncio
import gc
import gzip
import logging
import shutil
import socket
import ssl
import struct
import subprocess
import weakref
import zlib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.server.fakes import LIMIT, STREAM, completion, until
from tests.server.fakes_upstream import (
    BODY,
    SECRET,
    Reader,
    Writer,
    a_route,
    chunked,
    fails,
    head,
    pair,
    provider,
    say,
    upstream,
    whole,
)

from flatfee.server.providers import http
from flatfee.server.providers.base import ProviderFailure
from flatfee.server.providers.http1.connection import READ_AHEAD
from flatfee.server.providers.unpack import PIECE, Unpacker
from flatfee.wire import AttemptOutcome

EVENTS = b"".join(STREAM)


def flushed(parts: Sequence[bytes], wbits: int) -> list[bytes]:
    """Compress a stream so that each part of it can be read as soon as it is there."""
    packer = zlib.compressobj(wbits=wbits)
    return [*(packer.compress(part) + packer.flush(zlib.Z_SYNC_FLUSH) for part in parts), packer.flush()]


# --- encodings ---


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(completion())),
        ("GZip", gzip.compress(completion())),
        ("gzip", gzip.compress(completion()[:9]) + gzip.compress(completion()[9:])),
        ("deflate", zlib.compress(completion())),
        ("deflate", zlib.compress(completion(), wbits=-15)),
        ("x-gzip", gzip.compress(completion())),
        ("gzip", gzip.compress(completion()) + b"\0" * 40),
        ("identity", completion()),
        ("", completion()),
    ],
    ids=["gzip", "in capitals", "two", "deflate", "raw deflate", "its old name", "padded", "none", "no name"],
)
async def test_an_answer_in_a_common_encoding_is_unpacked(encoding: str, packed: bytes) -> None:
    answering = whole(packed, f"content-encoding: {encoding}")
    async with pair(answering) as (_fake, api), api.send(a_route(), BODY, stream=False) as answer:
        assert await answer.read() == completion()


@pytest.mark.parametrize(("encoding", "wbits"), [("gzip", 31), ("deflate", 15), ("deflate", -15)])
async def test_each_part_of_a_packed_stream_is_passed_on_at_once(encoding: str, wbits: int) -> None:
    heard = asyncio.Event()
    first, *others = flushed(STREAM, wbits)

    async def answer_in_turn(writer: Writer) -> None:
        writer.write(head(None, f"content-encoding: {encoding}") + chunked(first))
        await heard.wait()
        writer.write(b"".join(map(chunked, others)) + b"0\r\n\r\n")

    async with (
        pair(answer_in_turn) as (_fake, api),
        asyncio.timeout(LIMIT),
        api.send(a_route(), BODY, stream=True) as answer,
    ):
        chunks = answer.chunks()
        assert await anext(chunks) == STREAM[0]
        heard.set()
        assert STREAM[0] + b"".join([chunk async for chunk in chunks]) == EVENTS


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "x-unknown"])
async def test_an_answer_in_another_encoding_is_an_error(encoding: str) -> None:
    async with upstream(whole(completion(), f"content-encoding: {encoding}")) as fake:
        assert (await fails(fake.port)).outcome is AttemptOutcome.ERROR


@pytest.mark.parametrize("encoding", ["br", "zstd", "x-unknown"])
async def test_a_refusal_in_an_unknown_encoding_still_has_its_head(encoding: str) -> None:
    answering = whole(b"??", f"content-encoding: {encoding}", "retry-after: 3", status="429 Slow Down")
    async with pair(answering) as (_fake, api), api.send(a_route(), BODY, stream=False) as answer:
        assert (answer.status, answer.headers["retry-after"]) == (429, "3")
        with pytest.raises(ProviderFailure):
            await answer.read()


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("size", [1, 7, 100])
async def test_a_packed_answer_may_be_cut_anywhere(encoding: str, size: int) -> None:
    text = completion() * 200
    packed = gzip.compress(text) if encoding == "gzip" else zlib.compress(text)
    unpacker = Unpacker(encoding)
    parts = [packed[start : start + size] for start in range(0, len(packed), size)]
    pieces = [piece for part in parts for piece in unpacker.unpack(part)]
    assert b"".join(pieces) == text
    assert max(map(len, pieces)) <= PIECE


@pytest.mark.parametrize("packed", [b"\x1f\x8b" + b"x" * 50, zlib.compress(completion())[:20] + b"\0" * 20])
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_what_cannot_be_unpacked_is_an_error(encoding: str, packed: bytes) -> None:
    async with upstream(whole(packed, f"content-encoding: {encoding}")) as fake:
        assert (await fails(fake.port)).outcome is AttemptOutcome.ERROR


# --- heads ---


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
@pytest.mark.parametrize("body", [b"", b"over there"], ids=["no body", "a body"])
async def test_no_redirect_is_followed(status: int, body: bytes) -> None:
    async with upstream(whole(b"", status="500 Never")) as other:
        location = f"location: http://127.0.0.1:{other.port}/v1/chat/completions"
        redirect = say(head(len(body), location, status=f"{status} Elsewhere") + (b"" if status == 304 else body))
        async with pair(redirect) as (fake, api), api.send(a_route(), BODY, stream=False) as answer:
            assert answer.status == status
            assert await answer.read() in {body, b""}
        assert (len(fake.heads), other.connections) == (1, 0)


@pytest.mark.parametrize("before", [b"100 Continue", b"103 Early Hints\r\nlink: <x>"])
async def test_what_is_said_before_the_answer_is_passed_over(before: bytes) -> None:
    early = b"HTTP/1.1 " + before + b"\r\n\r\n"
    answering = say(early, early, head(len(completion())) + completion())
    async with pair(answering) as (_fake, api), api.send(a_route(), BODY, stream=False) as answer:
        assert (answer.status, await answer.read()) == (200, completion())


@pytest.mark.parametrize("size", [9000, 30_000])
async def test_a_long_line_in_a_head_is_no_failure(size: int) -> None:
    answering = whole(completion(), "x-policy: " + "a" * size)
    async with pair(answering) as (_fake, api), api.send(a_route(), BODY, stream=False) as answer:
        assert (await answer.read(), len(answer.headers["x-policy"])) == (completion(), size)


async def test_another_protocol_is_no_answer() -> None:
    switch = say(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n" + b"x" * 1000)
    async with pair(switch) as (fake, api):
        async with api.send(a_route(), BODY, stream=False) as answer:
            assert answer.status == 101
        await until(lambda: fake.ended == 1)


async def flood(writer: Writer, piece: bytes) -> None:
    with suppress(ConnectionError):
        while True:  # until the adapter closes the connection
            writer.write(piece)
            await writer.drain()


@pytest.mark.parametrize(
    "piece", [b"x-more: and more\r\n", b"x" * 1000, b"x-%s\r\n " % (b"y" * 100)], ids=["lines", "one line", "folded"]
)
async def test_headers_without_end_are_an_error(piece: bytes) -> None:
    async def answer(writer: Writer) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nx-first: ")
        await flood(writer, piece)

    async with asyncio.timeout(LIMIT), upstream(answer) as fake:
        assert (await fails(fake.port)).outcome is AttemptOutcome.ERROR


@pytest.mark.parametrize("size", [None, 10**12], ids=["chunked", "a length"])
async def test_a_body_without_end_is_cut_off(size: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_ANSWER", 1_000_000)
    piece = b"x" * 10_000

    async def answer(writer: Writer) -> None:
        writer.write(head(size))
        await flood(writer, chunked(piece) if size is None else piece)

    async with asyncio.timeout(LIMIT), upstream(answer) as fake:
        assert str(await fails(fake.port)) == "answered with more than 1000000 bytes"


@pytest.mark.parametrize(
    "lines",
    [
        ["content-length: 5", "content-length: 6"],
        ["content-length: 5", "transfer-encoding: chunked"],
        ["content-length: -5"],
        ["content-length: 5_0"],
        ["x\0y: z", "content-length: 5"],
    ],
    ids=["two lengths", "a length and chunks", "a negative length", "no number", "a NUL"],
)
async def test_a_head_that_can_be_read_in_two_ways_is_an_error(lines: list[str]) -> None:
    answer = "\r\n".join(["HTTP/1.1 200 OK", *lines, "", "5\r\nhello\r\n0\r\n\r\n"]).encode()
    async with upstream(say(answer, close=True)) as fake:
        assert (await fails(fake.port)).outcome is AttemptOutcome.ERROR


# --- connections ---


async def test_a_pooled_connection_that_was_closed_meanwhile_is_not_used() -> None:
    async with pair(say(head(len(completion())) + completion(), close=True)) as (fake, api):
        for count in range(1, 4):
            async with api.send(a_route(), BODY, stream=False) as answer:
                assert await answer.read() == completion()
            await until(lambda: fake.ended == count)  # noqa: B023 - waited for within the loop
            for _ in range(3):  # until the adapter's loop has looked
                await asyncio.sleep(0)


async def test_an_end_of_a_connection_that_nobody_waits_for_is_no_complaint() -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told))
    head_is_there = asyncio.Event()

    async def broken(writer: Writer) -> None:
        writer.write(head(1000))
        await head_is_there.wait()
        reset(writer)

    async with pair(broken) as (fake, api):
        async with api.send(a_route(), BODY, stream=True):
            pass
        head_is_there.set()
        await until(lambda: fake.ended)
        for _ in range(3):
            await asyncio.sleep(0)
    gc.collect()
    assert complaints == []


async def test_a_kept_connection_remembers_none_of_its_answers() -> None:
    told: list[weakref.ref[object]] = []
    head_is_there = asyncio.Event()

    async def in_two(writer: Writer) -> None:
        writer.write(head(len(completion())))
        await head_is_there.wait()
        head_is_there.clear()
        writer.write(completion())

    async with pair(in_two) as (fake, api):
        for _ in range(5):
            async with api.send(a_route(), BODY, stream=False) as answer:
                head_is_there.set()
                await answer.read()
                told.append(weakref.ref(answer))
            del answer
            await asyncio.sleep(0)
        gc.collect()
        assert fake.connections == 1
        assert [found() for found in told[:-1]] == [None] * 4


async def test_bytes_behind_an_answer_are_not_the_next_answer() -> None:
    smuggled = head(4) + b"evil"
    async with pair(say(head(len(completion())) + completion() + smuggled)) as (_fake, api):
        for _ in range(3):
            async with api.send(a_route(), BODY, stream=False) as answer:
                assert await answer.read() == completion()


async def test_the_environment_names_no_proxy_and_no_password(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login canary password canary\n")
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NETRC", str(netrc))
    async with pair(whole(completion()), key=None) as (fake, api), api.send(a_route(), BODY, stream=False) as answer:
        assert answer.status == 200
    assert b"authorization" not in fake.heads[0].lower()


def reset(writer: Writer) -> None:
    """Break a connection off as a crash does, without a word."""
    plug: socket.socket = writer.get_extra_info("socket")
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def handles() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts file handles where Linux lists them")
async def test_two_hundred_requests_with_faults_leave_no_file_handle() -> None:
    async def answer(writer: Writer) -> None:
        faults: list[Callable[[], Awaitable[None] | None]] = [
            lambda: whole(completion())(writer),
            lambda: reset(writer),
            lambda: say(head(100) + b"{", close=True)(writer),
            lambda: say(b"\0" * 100)(writer),
            lambda: say(head(None) + chunked(STREAM[0]))(writer),
            lambda: whole(b"", "content-encoding: br")(writer),
            lambda: say(head(None) + b"zz\r\n")(writer),
            lambda: whole(b"{}", status="503 No")(writer),
        ]
        doing = faults[len(fake.heads) % len(faults)]()
        if doing is not None:
            await doing

    async def ask() -> None:
        with suppress(ProviderFailure):
            async with api.send(a_route(), BODY, stream=True) as answer:
                await anext(answer.chunks())

    async with upstream(answer) as fake, provider(fake.port) as api:
        await ask()
        await until(lambda: fake.connections - fake.ended <= 1)
        before = handles()
        for _ in range(25):
            await asyncio.gather(*(ask() for _ in range(8)))
        await until(lambda: handles() <= before + 2 * 8)  # pooled, at both ends of each connection
        assert len(fake.heads) == 201
    await until(lambda: handles() <= before)


async def test_a_reader_that_waits_leaves_the_rest_with_the_provider() -> None:
    piece, pieces = b"x" * 10_000, 1000
    sent = 0

    async def answer(writer: Writer) -> None:
        nonlocal sent
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        writer.write(head(pieces * len(piece)))
        for _ in range(pieces):
            writer.write(piece)
            sent += len(piece)
            await writer.drain()

    async def still() -> None:
        """Wait until the upstream can send no more."""
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.2)

    async with (
        pair(answer) as (_fake, api),
        asyncio.timeout(LIMIT),
        api.send(a_route(), BODY, stream=True) as answer_of_it,
    ):
        chunks = answer_of_it.chunks()
        first = await anext(chunks)
        await still()
        assert sent < 600_000
        rest = [chunk async for chunk in chunks]
        assert max(map(len, [first, *rest])) <= READ_AHEAD
        assert sum(map(len, [first, *rest])) == pieces * len(piece)


# --- connecting ---


async def test_a_handshake_that_never_ends_is_a_timeout() -> None:
    async def accept(reader: Reader, writer: Writer) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server, asyncio.timeout(LIMIT):
        port = server.sockets[0].getsockname()[1]
        failure = await fails(port, "https://127.0.0.1", connect_timeout=0.2)
    assert failure.outcome is AttemptOutcome.TIMEOUT


async def test_a_name_that_is_never_resolved_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", never)
    async with asyncio.timeout(LIMIT):
        failure = await fails(9, "http://never.invalid", connect_timeout=0.2)
    assert failure.outcome is AttemptOutcome.TIMEOUT


async def test_a_name_that_nobody_has_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    assert (await fails(9, "http://nobody.invalid")).outcome is AttemptOutcome.UNAVAILABLE


async def test_a_provider_that_speaks_no_tls_is_unavailable(caplog: pytest.LogCaptureFixture) -> None:
    async def refuse(reader: Reader, writer: Writer) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        failure = await fails(server.sockets[0].getsockname()[1], "https://127.0.0.1")
    assert failure.outcome is AttemptOutcome.UNAVAILABLE
    assert [(r.msg, r.levelno) for r in caplog.records] == [("provider.untrusted", logging.ERROR)]


@pytest.fixture
def self_signed(tmp_path: Path) -> ssl.SSLContext:
    """A server's side of TLS, with a certificate that nobody vouches for."""
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "cert.pem")
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = ["openssl", "req", "-x509", *new_key, *names, "-days", "1", "-out", certificate]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to sign a certificate")
async def test_a_self_signed_certificate_is_not_trusted(
    self_signed: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    heads: list[bytes] = []

    async def hear(reader: Reader, writer: Writer) -> None:
        heads.append(await reader.read())
        writer.close()

    server = await asyncio.start_server(hear, "127.0.0.1", 0, ssl=self_signed)
    async with server:
        failure = await fails(server.sockets[0].getsockname()[1], "https://localhost")
    assert (failure.outcome, str(failure)) == (AttemptOutcome.UNAVAILABLE, "cannot be trusted")
    (record,) = [found for found in caplog.records if found.name == "flatfee.server"]
    assert (record.msg, record.route, record.why) == ("provider.untrusted", "up", "self-signed certificate")  # type: ignore[attr-defined]  # extras
    assert SECRET.encode() not in b"".join(heads)
