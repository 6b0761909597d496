"""Answers that say no, connections that never answer, and answers that only look like one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Final

from tests.faults.speech import (
    COMMENT,
    HALF,
    ROLE,
    STREAM,
    STREAM_HEAD,
    chunk,
    chunked,
    completion,
    error,
    event,
    head,
    sized,
    streamed,
)
from tests.faults.steps import Ending, Pause, Script, Seen, Step

STATUSES: Final = (400, 401, 403, 404, 408, 413, 429, 500, 502, 503, 504, 529)
REDIRECTS: Final = (301, 302, 307, 308)
KEEP_ALIVE: Final = 0.05
"""Seconds between comments."""

HTML: Final = b"<!DOCTYPE html><html><body><h1>The service is being updated.</h1></body></html>"
OVERFLOW: Final = "This model's maximum context length is 8192 tokens."
LLAMA_OVERFLOW: Final[Mapping[str, Any]] = {
    "error": {
        "code": 400,
        "message": "the request exceeds the available context size",
        "type": "exceed_context_size_error",
        "n_prompt_tokens": 9000,
        "n_ctx": 4096,
    }
}
ERROR: Final[Mapping[str, Any]] = {
    "error": {"message": "The server had an error.", "type": "server_error", "param": None, "code": None}
}


def always(*steps: Step) -> Script:
    """Do the same after every request."""
    return lambda _: steps


def status(number: int, *lines: str, code: object = "provider_code", kind: str = "provider_error") -> Script:
    """Refuse with a status and OpenAI's error."""
    return always(sized(error(code, kind=kind), number, *lines))


def in_a_moment(_: Seen) -> Iterable[Step]:
    """Ask for a pause until a date: the next whole second or the one after, as dates have no smaller part."""
    then = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    return [sized(error("rate_limit_exceeded"), 429, f"retry-after: {then}")]


def redirect(number: int) -> Script:
    def redirected(seen: Seen) -> Iterable[Step]:
        return [sized(b"", number, f"location: {seen.trap}/chat/completions")]

    return redirected


def comments_for_ever(seen: Seen) -> Iterable[Step]:
    """Say that one is there, and nothing else. To a plain request: white space, which JSON allows."""
    yield STREAM_HEAD if seen.stream else head(200, "transfer-encoding: chunked")
    while True:
        yield chunk(COMMENT if seen.stream else b" ")
        yield Pause(KEEP_ALIVE)


def error_with_200(seen: Seen) -> Iterable[Step]:
    return streamed([event(ERROR)]) if seen.stream else [sized(json.dumps(ERROR).encode())]


def error_after_the_role(_: Seen) -> Iterable[Step]:
    return streamed([ROLE, event(ERROR)])


def html(seen: Seen) -> Iterable[Step]:
    return [sized(HTML, kind="text/html")]


def silent_after_the_head(seen: Seen) -> Iterable[Step]:
    return [STREAM_HEAD if seen.stream else head(200, "content-length: 500"), Ending.SILENCE]


def silent_after_the_role(_: Seen) -> Iterable[Step]:
    return [STREAM_HEAD, chunk(ROLE), Ending.SILENCE]


REFUSALS: Final[Mapping[str, Script]] = {
    **{f"http-{number}": status(number) for number in STATUSES},
    **{f"redirect-{number}": redirect(number) for number in REDIRECTS},
    "silent": always(Ending.SILENCE),
    "silent-after-the-head": silent_after_the_head,
    "silent-after-the-role": silent_after_the_role,
    "comments-only": comments_for_ever,
    "closed-before-a-byte": always(Ending.FIN),
    "reset-before-a-byte": always(Ending.RESET),
    "closed-in-the-head": always(b"HTTP/1.1 200 OK\r\ncontent-ty", Pause(0.05), Ending.FIN),
    "reset-in-the-head": always(b"HTTP/1.1 200 OK\r\ncontent-ty", Pause(0.05), Ending.RESET),
    "429-retry-after-1": status(429, "retry-after: 1", code="rate_limit_exceeded"),
    "429-retry-after-30": status(429, "retry-after: 30", code="rate_limit_exceeded"),
    "429-retry-after-a-date": in_a_moment,
    "429-retry-after-nonsense": status(429, "retry-after: soon", code="rate_limit_exceeded"),
    "429-insufficient-quota": status(429, code="insufficient_quota", kind="insufficient_quota"),
    "503-retry-after-1": status(503, "retry-after: 1"),
    "503-retry-after-30": status(503, "retry-after: 30"),
    "content-policy-400": status(400, code="content_policy_violation", kind="invalid_request_error"),
    "content-policy-403": status(403, code="content_policy_violation", kind="invalid_request_error"),
    "context-too-long": always(sized(error("context_length_exceeded", OVERFLOW, "invalid_request_error"), 400)),
    "context-too-long-llama": always(sized(json.dumps(LLAMA_OVERFLOW).encode(), 400)),
    "error-with-200": error_with_200,
    "error-after-the-role": error_after_the_role,
    "html-with-200": html,
    "html-with-503": always(sized(HTML, 503, kind="text/html")),
    "empty-200": always(sized(b"")),
    "empty-stream": always(head(200, "transfer-encoding: chunked", kind=STREAM), b"0\r\n\r\n"),
    "no-choices": always(sized(b'{"id": "chatcmpl-1", "choices": []}')),
    "length-too-long": always(head(200, "content-length: 5000"), completion(HALF), Pause(0.05), Ending.FIN),
    "reset-in-the-body": always(head(200, "content-length: 5000"), completion(HALF), Pause(0.05), Ending.RESET),
    "no-last-chunk": always(
        head(200, "transfer-encoding: chunked"), *chunked([completion()[:100]]), Pause(0.05), Ending.FIN
    ),
    "half-of-the-json": always(sized(completion()[:100])),
    "stalls-in-the-body": always(head(200, "content-length: 5000"), completion(HALF), Ending.SILENCE),
}
