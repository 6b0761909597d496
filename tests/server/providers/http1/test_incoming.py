"""Answers read from bytes that are cut anywhere, and from bytes that are none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatfee.server.providers.http1.incoming import ENDED, MAX_HEAD, MAX_HEADER_LINE, NO_HTTP, TOO_LONG, Incoming

OK = b"HTTP/1.1 200 OK\r\n"
SIZED = OK + b"X-Odd: 1\r\nContent-Length: 11\r\n\r\nhello world"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nx-trailer: y\r\n\r\n"
UNTIL_THE_END = OK + b"content-type: text/plain\r\n\r\nhello world"
EARLY = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n"
HELLO = b"hello world"


@dataclass(frozen=True)
class Heard:
    """All that was made of an answer."""

    status: int
    fields: Sequence[tuple[bytes, bytes]]
    body: bytes
    done: bool
    keeps: bool
    broken: str | None


def hear(pieces: Iterable[bytes], *, ends: bool = True) -> Heard:
    answer = Incoming()
    answer.begin()
    for piece in pieces:
        answer.feed(piece)
    keeps = answer.keeps
    if ends:
        answer.end(cleanly=True)
    return Heard(answer.status, answer.fields, b"".join(answer.parts), answer.done, keeps, answer.broken)


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


WHOLE = {
    "a length": (SIZED, 200, HELLO, True),
    "chunks": (CHUNKED, 200, HELLO, True),
    "until the end": (UNTIL_THE_END, 200, HELLO, False),
    "early words": (EARLY + SIZED, 200, HELLO, True),
    "early words, chunks": (EARLY + CHUNKED, 200, HELLO, True),
    "bare line feeds": (SIZED.replace(b"\r\n", b"\n"), 200, HELLO, True),
    "a blank behind a size": (CHUNKED.replace(b"5\r\n", b"5  \r\n"), 200, HELLO, True),
    "HTTP/1.0": (SIZED.replace(b"1.1", b"1.0"), 200, HELLO, False),
    "HTTP/1.0 that stays": (
        SIZED.replace(b"1.1", b"1.0").replace(b"X-Odd: 1", b"Connection: keep-alive"),
        200,
        HELLO,
        True,
    ),
    "a last answer": (SIZED.replace(b"X-Odd: 1", b"Connection: close"), 200, HELLO, False),
    "nothing": (OK + b"content-length: 0\r\n\r\n", 200, b"", True),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
    "304 with a length": (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", 304, b"", True),
    "another protocol": (b"HTTP/1.1 101 S\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", 101, b"", False),
    "another protocol, unnamed": (b"HTTP/1.1 101 S\r\n\r\n", 101, b"", False),
}


@pytest.mark.parametrize(("data", "status", "body", "keeps"), WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
def test_an_answer_is_read_wherever_it_is_cut(data: bytes, status: int, body: bytes, keeps: bool, size: int) -> None:
    heard = hear(cut(data, size))
    assert (heard.status, heard.body, heard.done, heard.keeps, heard.broken) == (status, body, True, keeps, None)


@pytest.mark.parametrize("data", [SIZED, CHUNKED, EARLY + SIZED], ids=["a length", "chunks", "early words"])
def test_an_answer_that_ends_early_is_never_whole(data: bytes) -> None:
    for end in range(len(data)):
        heard = hear([data[:end]])
        assert (heard.done, heard.broken) == (False, ENDED), data[:end]


def test_bytes_until_the_end_are_no_answer_where_the_end_is_a_break() -> None:
    answer = Incoming()
    answer.feed(UNTIL_THE_END)
    answer.end(cleanly=False)
    assert (answer.done, answer.broken) == (False, ENDED)


def test_a_body_whose_frame_is_not_known_does_not_end_with_the_connection() -> None:
    heard = hear([OK + b"transfer-encoding: gzip\r\n\r\nhello"])
    assert (heard.done, heard.broken) == (False, ENDED)


BROKEN = {
    "another protocol": b"SSH-2.0-OpenSSH\r\n\r\n",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x16",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "two lengths": OK + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello",
    "the same length twice": OK + b"content-length: 5\r\ncontent-length: 5\r\n\r\nhello",
    "a length and chunks": OK + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "chunks and a length": OK + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "a negative length": OK + b"content-length: -5\r\n\r\nhello",
    "a huge length": OK + b"content-length: 99999999999999999999999\r\n\r\nhello",
    "a length in words": OK + b"content-length: 0x5\r\n\r\nhello",
    "a NUL in a name": OK + b"x\0y: z\r\n\r\n",
    "a NUL in a value": OK + b"x: \0\r\n\r\n",
    "a blank in a name": OK + b"content-length : 5\r\n\r\nhello",
    "a folded line": OK + b"x: y\r\n z\r\ncontent-length: 5\r\n\r\nhello",
    "a line without colon": OK + b"nothing\r\n\r\n",
    "a size in words": OK + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
    "a negative size": OK + b"transfer-encoding: chunked\r\n\r\n-1\r\n",
    "no size": OK + b"transfer-encoding: chunked\r\n\r\n\r\n",
    "a huge size": OK + b"transfer-encoding: chunked\r\n\r\nfffffffffffffffff1\r\n",
    "more than its size": OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello world\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("size", [1, 10_000])
def test_what_is_no_answer_or_could_be_two_is_refused(data: bytes, size: int) -> None:
    heard = hear(cut(data, size), ends=False)
    assert (heard.done, heard.keeps, heard.broken) == (False, False, NO_HTTP)


@pytest.mark.parametrize("size", [1000, 8192, 1_000_000])
@pytest.mark.parametrize(
    "piece",
    [b"x-more: and more\r\n", b"y" * 4000, b"HTTP/1.1 100 Continue\r\n\r\n"],
    ids=["lines", "one line", "early words"],
)
def test_a_head_without_end_is_cut_off(piece: bytes, size: int) -> None:
    first = b"" if piece.startswith(b"HTTP") else OK + b"x: "
    heard = hear(cut(first + piece * (3 * MAX_HEAD // len(piece)), size), ends=False)
    assert heard.broken == TOO_LONG


@pytest.mark.parametrize("size", [100, 1000, 1_000_000])
def test_a_line_is_bounded_wherever_it_is_cut(size: int) -> None:
    long = b"x" * (MAX_HEADER_LINE - 100)
    assert hear(cut(OK + b"x: " + long + b"\r\ncontent-length: 0\r\n\r\n", size)).done
    longer = hear(cut(OK + b"x: " + long + b"y" * 200 + b"\r\ncontent-length: 0\r\n\r\n", size))
    assert longer.broken == TOO_LONG


@pytest.mark.parametrize("piece", [b"x-more: and more\r\n", b"y" * 1000], ids=["lines", "one line"])
def test_trailers_without_end_are_cut_off(piece: bytes) -> None:
    answer = [CHUNKED.removesuffix(b"\r\n"), b"x: "] + [piece] * (2 * MAX_HEAD // len(piece))
    assert hear(answer, ends=False).broken == TOO_LONG


def test_a_chunk_whose_line_never_ends_is_cut_off() -> None:
    heard = hear([CHUNKED.partition(b"5\r\n")[0] + b"5;a="] + [b"x" * 1000] * 100, ends=False)
    assert heard.broken == TOO_LONG


def test_trailers_are_no_headers() -> None:
    assert hear([CHUNKED]).fields == [(b"transfer-encoding", b"chunked")]


def test_after_a_trailer_that_ends_the_connection_no_answer_can_follow() -> None:
    heard = hear([CHUNKED.replace(b"x-trailer: y", b"connection: close")], ends=False)
    assert (heard.body, heard.keeps) == (HELLO, False)


@pytest.mark.parametrize("status", [b"000", b"042"])
def test_what_has_no_status_is_neither_an_answer_nor_a_word_before_one(status: bytes) -> None:
    heard = hear([b"HTTP/1.1 " + status + b" Odd\r\ncontent-length: 4\r\n\r\nevil", SIZED])
    assert (heard.status, heard.body, heard.broken) == (0, b"", NO_HTTP)


def test_what_was_said_before_is_no_header_of_the_answer() -> None:
    assert hear([EARLY + SIZED]).fields == [(b"X-Odd", b"1"), (b"Content-Length", b"11")]


@pytest.mark.parametrize("more", [SIZED, b"x", b"HTTP/1.1 500 No\r\ncontent-length: 4\r\n\r\nevil"])
@pytest.mark.parametrize("apart", [False, True], ids=["with it", "behind it"])
def test_what_follows_an_answer_changes_nothing_of_it(more: bytes, apart: bool) -> None:
    heard = hear([SIZED, more] if apart else [SIZED + more])
    assert (heard.status, heard.body, heard.done, heard.keeps) == (200, HELLO, True, False)


def test_a_connection_gives_one_answer_after_the_other() -> None:
    answer = Incoming()
    for data in (SIZED, CHUNKED, EARLY + SIZED, b"HTTP/1.1 204 No Content\r\n\r\n", CHUNKED):
        answer.begin()
        assert not any((answer.status, answer.done, answer.heard, answer.fields, answer.parts))
        for piece in cut(data, 9):
            answer.feed(piece)
        assert (answer.done, answer.keeps) == (True, True)


def test_what_came_before_an_answer_broke_is_kept() -> None:
    heard = hear([CHUNKED.partition(b"6;")[0] + b"zz\r\n"], ends=False)
    assert (heard.body, heard.broken) == (b"hello", NO_HTTP)


_NAMES = st.sampled_from([b"x", b"content-length", b"transfer-encoding", b"connection", b"Content-Encoding"])
_VALUES = st.sampled_from([b"5", b"6", b"0", b"chunked", b"close", b"keep-alive", b"", b"gzip", b"\0"])
_STATUSES = st.sampled_from([b"100", b"103", b"200", b"204", b"304", b"429", b"999", b"20"])


def a_head(status: bytes, lines: Sequence[tuple[bytes, bytes]], end: bytes) -> bytes:
    return end.join([b"HTTP/1.1 %s X" % status, *(b"%s: %s" % line for line in lines), b"", b""])


_HEADS = st.builds(
    a_head,
    _STATUSES,
    st.lists(st.tuples(_NAMES, _VALUES), max_size=3),
    st.sampled_from([b"\r\n", b"\r\n", b"\n"]),
)
_BODIES = st.sampled_from(
    [b"", b"hello", b"hello!", b"5\r\nhello\r\n0\r\n\r\n", b"1\r\na\r\n", b"0\r\nx: y\r\n\r\n", b"g\r\n", b"\0\xff"]
)
_BYTES = st.lists(st.one_of(_HEADS, _BODIES, st.just(SIZED), st.just(CHUNKED)), max_size=4).map(b"".join)


@given(_BYTES, st.lists(st.integers(0, 400), max_size=6))
def test_how_bytes_are_cut_makes_no_difference(data: bytes, places: list[int]) -> None:
    ends = sorted({*(place for place in places if place < len(data)), len(data)})
    pieces = [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    cut_up, in_one = hear(pieces), hear([data])
    assert (cut_up.status, cut_up.fields, cut_up.body) == (in_one.status, in_one.fields, in_one.body)
    assert (cut_up.done, cut_up.broken) == (in_one.done, in_one.broken)
