"""Whole answers in strange clothes: other shapes, other encodings, odd events, odd figures."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from tests.faults.catalogue.refusals import always
from tests.faults.speech import (
    COMMENT,
    DONE,
    ROLE,
    STOP,
    STREAM,
    STREAM_HEAD,
    TEXT,
    USAGE,
    chunk,
    chunked,
    completion,
    delta,
    event,
    events,
    head,
    sized,
    streamed,
    usage,
    words,
)
from tests.faults.steps import Pause, Script, Seen, Step

LARGE: Final = "x" * (10 * 1024 * 1024)
_BLOCK: Final = b"x" * 65_536


def other_shape(seen: Seen) -> Iterable[Step]:
    """Answer a stream request plainly, and a plain one with a stream."""
    return [sized(completion())] if seen.stream else streamed(events())


def encoded(name: str, encode: Callable[[bytes], bytes]) -> Script:
    """Compress what was asked to be sent as it is."""

    def answered(seen: Seen) -> Iterable[Step]:
        if not seen.stream:
            return [sized(encode(completion()), 200, f"content-encoding: {name}")]
        body = encode(b"".join(events()))
        third = len(body) // 3
        parts = [body[:third], body[third : 2 * third], body[2 * third :]]
        lines = ("transfer-encoding: chunked", f"content-encoding: {name}")
        return [head(200, *lines, kind=STREAM), *chunked(parts), b"0\r\n\r\n"]

    return answered


def gzip_cut(seen: Seen) -> Iterable[Step]:
    """Leave out the end of what was compressed, and end the body well."""
    body = gzip.compress(b"".join(events()) if seen.stream else completion())[:-60]
    return [sized(body, 200, "content-encoding: gzip", kind=STREAM if seen.stream else "application/json")]


def one_byte_at_a_time(seen: Seen) -> Iterable[Step]:
    """Send each byte as a packet; of a stream, as a chunk too."""
    if not seen.stream:
        return (bytes([byte]) for byte in sized(completion()))
    return [STREAM_HEAD, *chunked(bytes([byte]) for byte in b"".join(events())), b"0\r\n\r\n"]


def one_packet(seen: Seen) -> Iterable[Step]:
    return [b"".join(streamed(events()))]


def lines_end_in(end: bytes) -> list[bytes]:
    return [part.replace(b"\n", end) for part in events()]


def odd_lines() -> list[bytes]:
    """Return a whole answer with comments, ids, names, and data of several lines."""
    first, *rest = events()
    several = b'id: 7\nevent: message\n: a comment\ndata: {"id": "chatcmpl-1",\ndata: "choices": []}\nretry: 10\n\n'
    return [
        COMMENT,
        first,
        b": another\n" + rest[0],
        several,
        *(part.replace(b"data: ", b"data:") for part in rest[1:]),
    ]


def endless_event(_: Seen) -> Iterable[Step]:
    yield STREAM_HEAD
    yield chunk(b'data: {"id": "')
    while True:
        yield chunk(_BLOCK)


def with_usage(told: Any) -> Script:
    """Tell figures that cannot be."""

    def answered(seen: Seen) -> Iterable[Step]:
        last = event({"id": "chatcmpl-1", "choices": [], "usage": told})
        return streamed([*events()[:-2], last, DONE]) if seen.stream else [sized(completion(told=told))]

    return answered


def whole(parts: Sequence[bytes]) -> Script:
    return always(*streamed(parts))


def large(seen: Seen) -> Iterable[Step]:
    said = event(delta({"content": LARGE}))
    return streamed([ROLE, said, STOP, USAGE, DONE]) if seen.stream else [sized(completion(LARGE))]


def unfinished_head(first: bytes) -> Script:
    def sent(_: Seen) -> Iterable[Step]:
        yield first
        while True:
            yield _BLOCK
            yield Pause(0.001)

    return sent


def many_headers(_: Seen) -> Iterable[Step]:
    yield b"HTTP/1.1 200 OK\r\n"
    while True:
        yield b"x-header: y\r\n" * 1000
        yield Pause(0.001)


ANSWERS: Final[Mapping[str, Script]] = {
    "other-shape": other_shape,
    "gzip": encoded("gzip", gzip.compress),
    "deflate": encoded("deflate", zlib.compress),
    "gzip-cut": gzip_cut,
    "unknown-encoding": encoded("x-flatfee", lambda data: data[::-1]),
    "byte-by-byte": one_byte_at_a_time,
    "one-packet": one_packet,
    "line-ends-cr": whole(lines_end_in(b"\r")),
    "line-ends-crlf": whole(lines_end_in(b"\r\n")),
    "odd-lines": whole(odd_lines()),
    "byte-order-mark": whole([b"\xef\xbb\xbf" + events()[0], *events()[1:]]),
    "last-event-unended": whole([*events()[:-3], STOP.rstrip(b"\n")]),
    "event-of-10-mb": large,
    "endless-event": endless_event,
    "huge-header": always(b"HTTP/1.1 200 OK\r\nx-padding: " + _BLOCK * 16 + b"\r\n\r\n"),
    "endless-header": unfinished_head(b"HTTP/1.1 200 OK\r\nx-padding: "),
    "endless-headers": many_headers,
    "endless-status-line": unfinished_head(b"HTTP/1.1 200 "),
    "usage-negative": with_usage(usage(-5, -7)),
    "usage-absurd": with_usage(usage(10**15, 10**15)),
    "usage-of-text": with_usage({"prompt_tokens": "many", "completion_tokens": None}),
    "usage-null": with_usage({}),
    "says-the-text-in-one": whole([ROLE, event(delta({"content": TEXT})), STOP, USAGE, DONE]),
    "role-in-every-event": whole(
        [*(event(delta({"role": "assistant", "content": c})) for c in ("", TEXT)), STOP, DONE]
    ),
    "null-deltas": whole(
        [
            event(delta({"role": "assistant", "content": None})),
            *words(),
            event(delta({"content": None}, "stop")),
            USAGE,
            DONE,
        ]
    ),
}
