"""Where a request ends: shapes that two servers could read in two ways are refused, and the connection ends."""

from __future__ import annotations

import pytest
from tests.server.abuse.wire import ASK, BODY, CHUNKED, IN_CHUNKS, Bench, Case, head, ok, whole

pytestmark = pytest.mark.slow
"""It goes through many cases; ``make check`` has the time."""

LENGTH = b"content-length: %d" % len(BODY)
SIZE = b"%x" % len(BODY)
SMUGGLED = b"GET /v1/models HTTP/1.1\r\nhost: gateway\r\n\r\n"


def coded(coding: bytes, *, first: bytes = ASK) -> bytes:
    return head(coding, first=first) + IN_CHUNKS


def sized(length: bytes) -> bytes:
    return head(b"content-length:" + length) + BODY


def chunks(raw: bytes) -> bytes:
    return head(CHUNKED) + raw


FRAMES = [
    Case("a length and chunks", head(LENGTH, CHUNKED) + IN_CHUNKS),
    Case("chunks and a length", head(CHUNKED, LENGTH) + IN_CHUNKS),
    Case("a length of 0, chunks and a request", head(b"content-length: 0", CHUNKED) + b"0\r\n\r\n" + SMUGGLED),
    Case("a length twice", head(LENGTH, LENGTH) + BODY),
    Case("two lengths", head(LENGTH, b"content-length: 5") + BODY),
    Case("a list of lengths", sized(b" %d, %d" % (len(BODY), len(BODY)))),
    Case("a coding nobody knows", coded(b"transfer-encoding: xchunked")),
    Case("a coding behind chunked", coded(b"transfer-encoding: chunked, identity")),
    Case("no coding", coded(b"transfer-encoding: identity")),
    Case("a coding before chunked", coded(b"transfer-encoding: gzip, chunked")),
    Case("chunked twice in one", coded(b"transfer-encoding: chunked, chunked")),
    Case("chunked twice", coded(CHUNKED + b"\r\n" + CHUNKED)),
    Case("a coding on a line before chunked", coded(b"transfer-encoding: gzip\r\n" + CHUNKED)),
    Case("chunked in quotes", coded(b'transfer-encoding: "chunked"')),
    Case("chunked behind a vertical tab", coded(b"transfer-encoding: \x0bchunked")),
    Case("chunked before a tab", coded(b"transfer-encoding: chunked\t")),
    Case("chunked before a colon of its own", coded(b"transfer-encoding : chunked")),
    Case("chunked on a folded line", coded(b"transfer-encoding:\r\n chunked")),
    Case("chunked in HTTP/1.0", coded(CHUNKED, first=b"POST /v1/chat/completions HTTP/1.0")),
    ok("chunked behind a tab", coded(b"transfer-encoding:\tchunked")),
    ok("chunked in capitals", coded(b"Transfer-Encoding: CHUNKED")),
    Case("a length with a plus", sized(b" +%d" % len(BODY))),
    Case("a length below zero", sized(b" -1")),
    Case("a length in hexadecimal", sized(b" 0x%x" % len(BODY))),
    Case("a length with a space in it", sized(b" 6 2")),
    Case("a length with an underscore in it", sized(b" 6_2")),
    Case("a length with a fraction", sized(b" 62.0")),
    Case("no length behind the colon", sized(b" ")),
    Case("a length past 64 bits", sized(b" %d" % (2**64 + len(BODY)))),
    ok("a length with zeros before it", sized(b" 00%d" % len(BODY))),
    ok("a length among spaces", sized(b"  %d  " % len(BODY))),
]
CHUNKS = [
    ok("a chunk", chunks(IN_CHUNKS)),
    ok("a chunk with an extension", chunks(SIZE + b";name=value\r\n" + BODY + b"\r\n0\r\n\r\n")),
    Case("a chunk larger than 64 bits", chunks(b"fffffffffffffffff\r\n" + IN_CHUNKS)),
    Case("a chunk below zero", chunks(b"-1\r\n" + IN_CHUNKS)),
    Case("a chunk in 0x", chunks(b"0x" + IN_CHUNKS)),
    Case("a chunk with a space", chunks(IN_CHUNKS.replace(b"\r\n", b" \r\n", 1))),
    Case("a chunk without a size", chunks(b"\r\n" + IN_CHUNKS)),
    Case("a chunk that goes on", chunks(b"5\r\nhelloXX0\r\n\r\n")),
    Case("a chunk that ends in a bare LF", chunks(SIZE + b"\r\n" + BODY + b"\n0\r\n\r\n")),
    Case("a size that ends in a bare LF", chunks(SIZE + b"\n" + BODY + b"\r\n0\r\n\r\n")),
    Case("a size that ends in a bare CR", chunks(SIZE + b"\r" + BODY + b"\r\n0\r\n\r\n")),
    Case("an extension with a bare LF", chunks(SIZE + b";a\nb\r\n" + BODY + b"\r\n0\r\n\r\n")),
    Case("an extension without end", chunks(SIZE + b";" + b"a" * 500_000), status=431, code="headers_too_large"),
    Case("a trailer without a colon", chunks(IN_CHUNKS[:-2] + b"foo bar\r\n\r\n")),
    Case("a trailer that ends the connection", chunks(IN_CHUNKS[:-2] + b"connection: close\r\n\r\n")),
    Case("a trailer on a folded line", chunks(IN_CHUNKS[:-2] + b"a: b\r\n c\r\n\r\n")),
    Case(
        "a trailer without end", chunks(IN_CHUNKS[:-2] + b"a: " + b"x" * 500_000), status=431, code="headers_too_large"
    ),
    Case("trailers without end", chunks(IN_CHUNKS[:-2] + b"a: b\r\n" * 100_000), status=431, code="headers_too_large"),
]
LINES = [
    Case("lines that end in LF", whole().replace(b"\r\n", b"\n")),
    Case("lines that end in CR", whole().replace(b"\r\n", b"\r")),
    Case("a bare LF between two headers", whole(b"a: b\nc: d")),
    Case("a bare LF at the end of the head", whole().replace(b"\r\n\r\n", b"\r\n\n")),
    Case("a bare CR between two headers", whole(b"a: b\rc: d")),
    Case("two CR before a LF", whole(b"a: b\r")),
    Case("a line folded with a space", whole(b"a: b\r\n c")),
    Case("a line folded with a tab", whole(b"a: b\r\n\tc")),
    Case("a space before the first header", head(b" a: b", host=None)),
    Case("a space before a colon", whole(b"a : b")),
    Case("a tab before a colon", whole(b"a\t: b")),
    Case("a header without a colon", whole(b"abc")),
    Case("a header without a name", whole(b": b")),
    ok("empty lines before the request", b"\r\n\r\n" + whole()),
]


@pytest.mark.parametrize("case", FRAMES + CHUNKS + LINES, ids=str)
async def test_a_request_ends_in_one_place_or_is_refused(bench: Bench, case: Case) -> None:
    await bench.try_out(case)


@pytest.mark.parametrize("name", [b"x-flatfee-task: bogus", b"authorization: Bearer other", b"origin: https://evil"])
async def test_a_trailer_never_becomes_a_header(bench: Bench, name: bytes) -> None:
    await bench.try_out(ok("a trailer", chunks(IN_CHUNKS[:-2] + name + b"\r\n\r\n")))


async def test_a_trailer_gives_no_key_to_who_has_none(bench: Bench) -> None:
    request, key = chunks(IN_CHUNKS[:-2]), head().split(b"\r\n")[2]
    caller = await bench.call(request.replace(key + b"\r\n", b"") + key + b"\r\n\r\n")
    assert (await caller.answer()).code == "missing_api_key"


@pytest.mark.parametrize("at", [1, 20, 60, 100, 180, len(whole()) - 1])
async def test_a_request_may_come_in_pieces(bench: Bench, at: int) -> None:
    caller = await bench.call(whole()[:at])
    await bench.serves()
    await caller.send(whole()[at:])
    assert (await caller.answer()).status == 200


async def test_what_comes_behind_a_body_is_the_next_request(bench: Bench) -> None:
    caller = await bench.call(whole() + b"EVIL\r\n\r\n")
    first, second = await caller.answer(), await caller.answer()
    assert (first.status, second.status, second.code) == (200, 400, "invalid_request")
    assert first.request_id != second.request_id
    assert await caller.rest() == b""
