"""The body of a request: one parse for policy and provider, and what no two parsers agree on is refused."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest
from tests.server.abuse.wire import BODY, CHUNKED, Bench, Case, head, stays, whole

DEEP = b"[" * 200_000 + b"]" * 200_000
BOMB = gzip.compress(b" " * 10_000_000)


def body(raw: bytes) -> bytes:
    return whole(body=raw)


def also(members: bytes) -> bytes:
    """Return a good body with more members."""
    return whole(body=BODY[:-1] + b", " + members + b"}")


def said(raw: bytes) -> bytes:
    """Return a good body with other text in it, in quotes."""
    return whole(body=BODY.replace(b'"canary-prompt"', b'"' + raw + b'"'))


JSON = [
    stays("nothing", whole(body=b"")),
    stays("no body", head()),
    stays("null", body(b"null")),
    stays("a list", body(b"[1]")),
    stays("half an object", body(BODY[:-1])),
    stays("two objects", body(BODY + BODY)),
    stays("an object and more", body(BODY + b"x")),
    stays("a comma at the end", also(b"")),
    stays("a comment", also(b"/* canary */")),
    stays("single quotes", body(BODY.replace(b'"', b"'"))),
    stays("a model twice", also(b'"model": "economy"')),
    stays("a model twice, once with escapes", also(b'"mod\\u0065l": "economy"')),
    stays("a member twice that is not ours", also(b'"canar": 1, "canar": 1')),
    stays("lists without end", body(DEEP)),
    stays("lists without end in a member", also(b'"a": ' + DEEP)),
    stays("lists without end in a message", body(BODY.replace(b'"canary-prompt"', DEEP))),
    stays("objects without end", also(b'"a": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000)),
    stays("not a number", also(b'"temperature": NaN')),
    stays("infinity", also(b'"temperature": Infinity')),
    stays("minus infinity", also(b'"temperature": -Infinity')),
    stays("a choice of 5,000 digits", also(b'"n": ' + b"9" * 5000)),
    stays("tokens of 5,000 digits", also(b'"max_tokens": ' + b"9" * 5000)),
    stays("a number with a zero before it", also(b'"n": 01')),
    stays("a number in hexadecimal", also(b'"n": 0x1')),
    stays("half a surrogate pair in a message", said(b"\\ud800")),
    stays("the other half of a pair", said(b"\\udc00")),
    stays("half a pair and a letter", said(b"\\ud800a")),
    stays("half a pair in a name", also(b'"\\ud800": 1')),
    stays("half a pair in a member that is not ours", also(b'"a": ["\\ud800"]')),
    stays("half a pair in UTF-8", said(b"\xed\xa0\x80")),
    stays("a byte that is no UTF-8", said(b"\xff")),
    stays("a letter in too many bytes", said(b"\xc0\xaf")),
    stays("half a letter", said(b"\xc3")),
    stays("a letter past Unicode", said(b"\xf4\x90\x80\x80")),
    stays("a byte order mark", body(b"\xef\xbb\xbf" + BODY)),
    stays("UTF-16", body(BODY.decode().encode("utf-16"))),
    stays("a NUL in text", said(b"\0")),
    stays("a NUL behind", body(BODY + b"\0")),
    stays("a line break in text", said(b"\n")),
    stays("an escape nobody knows", said(b"\\x41")),
]
PASSED_ON = {
    "an escaped NUL": said(b"\\u0000"),
    "a whole surrogate pair": said(b"\\ud83d\\ude00"),
    "a letter past 16 bits": said("\U0001f600".encode()),
    "spaces around": body(b" \r\n\t" + BODY + b" \n"),
    "a seed past 64 bits": also(b'"seed": 123456789012345678901234567890'),
    "a name twice further in": also(b'"metadata": {"a": 1, "a": 2}'),
    "lists 100 deep": also(b'"a": ' + b"[" * 100 + b"]" * 100),
}
ENCODED = "unsupported_encoding"
ENCODINGS = [
    stays("gzip", whole(b"content-encoding: gzip", body=gzip.compress(BODY)), 415, ENCODED),
    stays("a gzip bomb", whole(b"content-encoding: gzip", body=BOMB), 415, ENCODED),
    stays("deflate", whole(b"content-encoding: deflate", body=zlib.compress(BODY)), 415, ENCODED),
    stays("an encoding nobody knows", whole(b"content-encoding: evil"), 415, ENCODED),
    stays("gzip that is not told", body(gzip.compress(BODY))),
]


@pytest.mark.parametrize("case", JSON, ids=str)
async def test_what_two_parsers_could_read_in_two_ways_is_refused(bench: Bench, case: Case) -> None:
    await bench.try_out(case)


@pytest.mark.parametrize("raw", PASSED_ON.values(), ids=PASSED_ON)
async def test_what_is_only_odd_is_passed_on(bench: Bench, raw: bytes) -> None:
    caller = await bench.call(raw)
    assert (await caller.answer()).status == 200
    sent: dict[str, Any] = json.loads(raw.partition(b"\r\n\r\n")[2])
    assert bench.provider.asked[-1] == ("first", {**sent, "model": "first-model"})
    await bench.serves()


@pytest.mark.parametrize("case", ENCODINGS, ids=str)
async def test_a_body_comes_as_it_is(bench: Bench, case: Case) -> None:
    await bench.try_out(case)


async def test_a_body_that_will_be_too_large_is_not_asked_for(bench: Bench) -> None:
    caller = await bench.call(head(b"content-length: 999999999999", b"expect: 100-continue"))
    assert (await caller.answer()).code == "request_too_large"


async def test_a_body_is_asked_for_only_once_its_key_is_good(bench: Bench) -> None:
    asks = head(b"content-length: %d" % len(BODY), b"expect: 100-continue")
    refused = await bench.call(asks.replace(b"canary-key", b"canary-kex"))
    assert (await refused.answer()).code == "invalid_api_key"
    caller = await bench.call(asks)
    assert (await caller.answer()).status == 100
    await caller.send(BODY)
    assert (await caller.answer()).status == 200


async def test_a_body_in_chunks_is_bounded_while_it_arrives(bench: Bench) -> None:
    caller = await bench.call(head(CHUNKED))
    piece = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    for _ in range(34):
        await caller.send(piece)
    assert (await caller.answer()).code == "request_too_large"
    await bench.serves()


async def test_who_is_refused_with_half_a_body_sent_hears_it_and_may_go_on(bench: Bench) -> None:
    raw = whole(body=b"x" * 3_000_000).replace(b"canary-key", b"canary-kex")
    caller = await bench.call(raw[:2_000_000])
    assert (await caller.answer()).code == "invalid_api_key"
    await caller.send(raw[2_000_000:] + whole())
    assert (await caller.answer()).status == 200


async def test_who_closes_after_its_request_hears_a_refusal_before_its_body_is_sent(bench: Bench) -> None:
    raw = whole(b"connection: close", body=b"x" * 3_000_000).replace(b"canary-key", b"canary-kex")
    caller = await bench.call(raw[:100_000])
    assert (await caller.answer()).code == "invalid_api_key"
    await caller.send(raw[100_000:])
    assert await caller.rest() == b""
