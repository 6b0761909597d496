"""HTTP itself gone wrong, or merely old."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from tests.faults.catalogue.healthy import said
from tests.faults.catalogue.midway import BEGUN
from tests.faults.catalogue.refusals import always
from tests.faults.speech import STREAM, STREAM_HEAD, chunked, completion, events, head, sized
from tests.faults.steps import Ending, Script, Seen, Step


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


WIRE: Final[Mapping[str, Script]] = {
    "not-http": always(b"SSH-2.0-OpenSSH_9.6\r\n", Ending.FIN),
    "bad-status-line": always(b"HTTP/1.1 two hundred\r\n\r\n", Ending.FIN),
    "bad-header": always(b"HTTP/1.1 200 OK\r\ncontent type application/json\r\n\r\n", Ending.FIN),
    "bad-chunk-size": always(STREAM_HEAD, b"zz\r\n", Ending.SILENCE),
    "bad-chunk-midway": always(STREAM_HEAD, *chunked(BEGUN), b"zz\r\n", Ending.SILENCE),
    "two-lengths": always(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n" + sized(completion())[17:], Ending.FIN),
    "continue-100": informed(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "early-hints-103": informed(b"HTTP/1.1 103 Early Hints\r\nlink: </x>; rel=preload\r\n\r\n"),
    "http-10": http_10,
    "http-10-cut": http_10_cut,
    "not-kept": not_kept,
    "bytes-after-the-answer": bytes_after_the_answer,
}
