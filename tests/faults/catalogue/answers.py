"""Whole answers in strange clothes: other shapes, other encodings, odd events, odd figures."""

from __future__ import annotations

import gzip
import json
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
from tests.faults.steps import Script, Seen, Step

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


def with_figures(part: bytes) -> bytes:
    """Put the usage so far into an event, as some servers do."""
    return part.replace(b'"finish_reason"', b'"usage": null, "finish_reason"').replace(
        b'"created": 1', b'"created": 1, "usage": {"prompt_tokens": 20, "completion_tokens": 12}'
    )


def halves() -> list[bytes]:
    """Return the text by UTF-16 units, as servers cut it whose strings are made of them: a rocket is two halves."""
    units = TEXT.encode("utf-16-be")
    parts = [units[at : at + 2].decode("utf-16-be", "surrogatepass") for at in range(0, len(units), 2)]
    return [b"data: " + json.dumps(delta({"content": part})).encode() + b"\n\n" for part in parts]


def without_type(seen: Seen) -> Iterable[Step]:
    first, *rest = streamed(events()) if seen.stream else [sized(completion())]
    kind = STREAM if seen.stream else "application/json"
    return [first.replace(f"content-type: {kind}\r\n".encode(), b""), *rest]


def large(seen: Seen) -> Iterable[Step]:
    said = event(delta({"content": LARGE}))
    return streamed([ROLE, said, STOP, USAGE, DONE]) if seen.stream else [sized(completion(LARGE))]


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
    "usage-negative": with_usage(usage(-5, -7)),
    "usage-absurd": with_usage(usage(10**15, 10**15)),
    "usage-of-text": with_usage({"prompt_tokens": "many", "completion_tokens": None}),
    "usage-null": with_usage({}),
    "usage-in-every-event": whole([with_figures(part) for part in events()[:-2]] + [DONE]),
    "empty-finish-reasons": whole(
        [part.replace(b'"finish_reason": null', b'"finish_reason": ""') for part in events()]
    ),
    "no-choices-first": whole([event({"id": "", "choices": [], "prompt_filter_results": []}), *events()]),
    "says-the-text-in-one": whole([ROLE, event(delta({"content": TEXT})), STOP, USAGE, DONE]),
    "null-deltas": whole(
        [
            event(delta({"role": "assistant", "content": None})),
            *words(),
            event(delta({"content": None}, "stop")),
            USAGE,
            DONE,
        ]
    ),
    "no-content-type": without_type,
    "half-characters": whole([ROLE, *halves(), STOP, USAGE, DONE]),
}
