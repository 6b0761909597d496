"""HTTP itself gone wrong, or merely old."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from tests.faults.catalogue.healthy import said
from tests.faults.catalogue.midway import BEGUN
from tests.faults.catalogue.refusals import always
from tests.faults.speech import STREAM, STREAM_HEAD, chunked, completion, events, head, sized
from tests.faults.steps import Ending, Pause, Script, Seen, Step

BLOCK: Final = b"x" * 65_536


def informed(first: bytes) -> Script:
    """Send an informational head before the answer."""

    def answered(seen: Seen) -> Iterable[Step]:
        return [first, *said(seen)]

    return answered


def http_10(seen: Seen) -> Iterable[Step]:
    """Answer without a length: the end of the connection is the end of the answer."""
    body = events() if seen.stream else [completion()]
    return [head(200, kind=STREAM if seen.stream else "application/json", version="1.0"), *body, Ending.FIN]


def http_10_cut(seen: Seen) -> Iterable[Step]:
    body = BEGUN if seen.stream else [completion()[:100]]
    return [head(200, kind=STREAM if seen.stream else "application/json", version="1.0"), *body, Ending.FIN]


def not_kept(seen: Seen) -> Iterable[Step]:
    """Answer the first request of a connection, and close at the second: it crossed our goodbye."""
    return said(seen) if seen.nth == 1 else [Ending.FIN]


def bytes_after_the_answer(seen: Seen) -> Iterable[Step]:
    """Answer, and send something that nobody asked for."""
    return [*said(seen), b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nWRONG"]


def unfinished_head(first: bytes) -> Script:
    def sent(_: Seen) -> Iterable[Step]:
        yield first
        while True:
            yield BLOCK
            yield Pause(0.001)

    return sent


def many_headers(_: Seen) -> Iterable[Step]:
    yield b"HTTP/1.1 200 OK\r\n"
    while True:
        yield b"x-header: y\r\n" * 1000
        yield Pause(0.001)


def endless_100(_: Seen) -> Iterable[Step]:
    while True:
        yield b"HTTP/1.1 100 Continue\r\n\r\n"
        yield Pause(0.01)


def extended_chunks(seen: Seen) -> Iterable[Step]:
    """Chunks with extensions, and a trailer behind the last."""
    parts = events() if seen.stream else [completion()]
    kind = STREAM if seen.stream else "application/json"
    yield head(200, "transfer-encoding: chunked", "trailer: x-sum", kind=kind)
    for part in parts:
        yield b"%x;name=value\r\n%b\r\n" % (len(part), part)
    yield b"0\r\nx-sum: 1\r\n\r\n"


def closed_after(seen: Seen) -> Iterable[Step]:
    """Answer, and close without having said so."""
    return [*said(seen), Ending.FIN]


def endless_refusal(_: Seen) -> Iterable[Step]:
    yield head(400, "transfer-encoding: chunked")
    while True:
        yield b"10000\r\n" + BLOCK + b"\r\n"


WIRE: Final[Mapping[str, Script]] = {
    "not-http": always(b"SSH-2.0-OpenSSH_9.6\r\n", Ending.FIN),
    "bad-status-line": always(b"HTTP/1.1 two hundred\r\n\r\n", Ending.FIN),
    "bad-header": always(b"HTTP/1.1 200 OK\r\ncontent type application/json\r\n\r\n", Ending.FIN),
    "bad-chunk-size": always(STREAM_HEAD, b"zz\r\n", Ending.SILENCE),
    "bad-chunk-midway": always(STREAM_HEAD, *chunked(BEGUN), b"zz\r\n", Ending.SILENCE),
    "two-lengths": always(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n" + sized(completion())[17:], Ending.FIN),
    "huge-header": always(b"HTTP/1.1 200 OK\r\nx-padding: " + BLOCK * 16 + b"\r\n\r\n"),
    "endless-header": unfinished_head(b"HTTP/1.1 200 OK\r\nx-padding: "),
    "endless-headers": many_headers,
    "endless-status-line": unfinished_head(b"HTTP/1.1 200 "),
    "endless-100": endless_100,
    "endless-refusal": endless_refusal,
    "refusal-stalls": always(head(429, "content-length: 500"), b'{"error": ', Ending.SILENCE),
    "no-content-204": always(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "extended-chunks": extended_chunks,
    "closed-after": closed_after,
    "continue-100": informed(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "early-hints-103": informed(b"HTTP/1.1 103 Early Hints\r\nlink: </x>; rel=preload\r\n\r\n"),
    "http-10": http_10,
    "http-10-cut": http_10_cut,
    "not-kept": not_kept,
    "bytes-after-the-answer": bytes_after_the_answer,
}
