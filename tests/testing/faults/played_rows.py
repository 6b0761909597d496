"""The rows of the failure table as the double plays them: the catalogue's name of each → a fault, or why there is none.

What must come of each is told by ``tests.faults.rows``, where raw sockets are the provider.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.faults.speech import ARGUMENTS, TEXT, THOUGHT, TOOL

from flatfee.testing import Fault, Reply, ToolCall

_HALF: Final = 4
"""Events: the role, and some of the text."""

LARGE: Final = 1 << 20
"""Bytes. Ten times as many are proven on sockets; here they would only take their time."""

_CALL: Final = Reply(tool_calls=(ToolCall(name=TOOL, arguments=ARGUMENTS),))
_THINKING: Final = Reply(reasoning=THOUGHT, text=TEXT)

PLAYED: Final[Mapping[str, Fault]] = {
    "refused": Fault.unreachable(),
    "deaf": Fault.connect_timeout(),
    "silent": Fault.silent(),
    "silent-after-the-head": Fault.silent(after=0),
    "silent-after-the-role": Fault.silent(after=1, of=TEXT),
    "comments-only": Fault.silent(keep_alives=True),
    "closed-before-a-byte": Fault.reset(),
    "reset-before-a-byte": Fault.reset(),
    "closed-in-the-head": Fault.reset(),
    "reset-in-the-head": Fault.reset(),
    "not-kept": Fault.reset(stale=True),
    **{
        f"http-{status}": Fault.status(status, code="provider_code")
        for status in (400, 401, 403, 404, 408, 413, 429, 500, 502, 503, 504, 529)
    },
    "429-retry-after-1": Fault.rate_limited(retry_after=1),
    "503-retry-after-1": Fault.status(503, retry_after=1),
    "429-retry-after-a-date": Fault.status(429, retry_after=1, retry_after_as="date"),
    "429-retry-after-30": Fault.rate_limited(retry_after=30),
    "503-retry-after-30": Fault.status(503, retry_after=30),
    "429-retry-after-nonsense": Fault.rate_limited(retry_after="soon"),
    "429-insufficient-quota": Fault.quota_exhausted(),
    "content-policy-400": Fault.content_refused(),
    "content-policy-403": Fault.content_refused(403),
    "context-too-long": Fault.context_overflow(),
    "context-too-long-llama": Fault.context_overflow(shape="llamacpp"),
    **{f"redirect-{status}": Fault.status(status) for status in (301, 302, 307, 308)},
    "error-with-200": Fault.error_event(after=0),
    "error-after-the-role": Fault.error_event(after=1, of=TEXT),
    "html-with-200": Fault.body("page"),
    "html-with-503": Fault.body("page", status_code=503),
    "empty-200": Fault.body("empty"),
    "empty-stream": Fault.body("empty"),
    "no-choices": Fault.body("no choices"),
    "length-too-long": Fault.cuts(of=TEXT),
    "reset-in-the-body": Fault.cuts(of=TEXT),
    "no-last-chunk": Fault.cuts(of=TEXT),
    "half-of-the-json": Fault.body("half"),
    "stalls-in-the-body": Fault.silent(after=1, of=TEXT),
    "http-10-cut-plain": Fault.body("half"),
    "gzip-cut": Fault.encoded("gzip without its end"),
    "cut-after-the-role": Fault.cuts(after=1, of=TEXT),
    "cut-midway": Fault.cuts(after=_HALF, of=TEXT),
    "reset-midway": Fault.cuts(after=_HALF, of=TEXT),
    "cut-within-a-chunk": Fault.cuts(after=_HALF, where="character", of=TEXT),
    "cut-within-an-event": Fault.ends(after=_HALF, where="event", of=TEXT),
    "ends-midway": Fault.ends(after=_HALF, of=TEXT),
    "http-10-cut-stream": Fault.ends(after=_HALF, of=TEXT),
    "bad-chunk-midway": Fault.cuts(after=_HALF, of=TEXT),
    "stalls-midway": Fault.silent(after=_HALF, of=TEXT),
    "comments-midway": Fault.silent(after=_HALF, keep_alives=True, of=TEXT),
    "no-finish-reason": Fault.ends(of=TEXT),
    "done-without-finish": Fault.ends(done=True, of=TEXT),
    "error-midway-openai": Fault.error_event(after=_HALF, of=TEXT),
    "error-midway-anthropic": Fault.error_event(after=_HALF, shape="anthropic", status_code=529, of=TEXT),
    "error-midway-text": Fault.error_event(after=_HALF, shape="text", of=TEXT),
    "error-midway-vllm": Fault.error_event(after=_HALF, shape="vllm", of=TEXT),
    "error-midway-named": Fault.error_event(after=_HALF, shape="anthropic", of=TEXT),
    "error-midway-llama": Fault.error_event(after=_HALF, shape="llamacpp", of=TEXT),
    "error-midway-openrouter": Fault.error_event(after=_HALF, shape="openrouter", status_code=502, of=TEXT),
    "broken-events-1": Fault.broken_events(1, of=TEXT),
    "broken-events-3": Fault.broken_events(3, of=TEXT),
    "broken-events-4": Fault.broken_events(4, of=TEXT),
    "tool-call-cut": Fault.cuts(after=2, of=_CALL),
    "tool-call-then-error": Fault.error_event(after=2, of=_CALL),
    "reasoning-cut": Fault.cuts(after=3, of=_THINKING),
    "two-choices-one-cut": Fault.cuts(where="choice", of=TEXT),
    "no-done": Fault.odd("no [DONE]", of=TEXT),
    "no-done-silent": Fault.odd("silent after its finish", of=TEXT),
    "no-done-no-usage-cut": Fault.odd("reset after its finish", of=TEXT),
    "dropped-after-done": Fault.odd("reset after [DONE]", of=TEXT),
    "closed-after-done": Fault.odd("reset after [DONE]", of=TEXT),
    "last-event-unended": Fault.odd("last event unended", of=TEXT),
    "other-shape": Fault.body("other shape", of=TEXT),
    "unknown-encoding": Fault.encoded(),
    "byte-by-byte": Fault.odd("byte by byte", of=TEXT),
    "one-packet": Fault.odd("one piece", of=TEXT),
    "line-ends-cr": Fault.odd("CR", of=TEXT),
    "line-ends-crlf": Fault.odd("CR LF", of=TEXT),
    "odd-lines": Fault.odd("odd lines", of=TEXT),
    "byte-order-mark": Fault.odd("byte order mark", of=TEXT),
    "null-deltas": Fault.odd("nulls", of=TEXT),
    "says-the-text-in-one": Fault.odd("one event", of=TEXT),
    "event-of-10-mb": Fault.large_event(LARGE),
    "endless-event": Fault.large_event(17 << 20),
    "slow-trickle": Fault.slow(2.0, of=TEXT),
    "too-slow": Fault.slow(4.5, of=Reply(text=TEXT, chunks=80)),
    "error-after-the-finish": Fault.odd("error after its finish", of=TEXT),
    "talks-after-done": Fault.odd("goes on after [DONE]", of=TEXT),
    "done-twice": Fault.odd("[DONE] twice", of=TEXT),
    "no-choices-first": Fault.odd("no choices first", of=TEXT),
    "empty-finish-reasons": Fault.odd("empty finish reasons", of=TEXT),
    "half-characters": Fault.odd("half characters", of=TEXT),
    "usage-in-every-event": Fault.odd("usage in every event", of=TEXT),
    "no-usage": Fault.odd("no usage", of=TEXT),
    "usage-with-the-finish": Fault.odd("usage with the finish", of=TEXT),
    "usage-negative": Fault.odd("usage negative", of=TEXT),
    "usage-absurd": Fault.odd("usage absurd", of=TEXT),
    "usage-of-text": Fault.odd("usage in words", of=TEXT),
    "usage-null": Fault.odd("usage empty", of=TEXT),
    "endless-100": Fault.silent(),
    "no-content-204": Fault.body("empty", status_code=204),
    "refusal-stalls": Fault.status(429, then="silence"),
    "endless-refusal": Fault.status(400, then="more and more"),
}
"""Name of the catalogue → fault. ``healthy`` needs none."""

_GARBLED: Final = "bytes that are no HTTP; the adapter tells them as a connection that broke: Fault.reset()"
_HTTP: Final = "HTTP that is read before the relay sees anything: an answer that is well"

ON_SOCKETS_ONLY: Final[Mapping[str, str]] = {
    "healthy": "nothing is wrong",
    "gzip": "undone by the adapter: an answer that is well",
    "deflate": "undone by the adapter: an answer that is well",
    "no-content-type": "headers of a good answer are not read",
    "not-http": _GARBLED,
    "bad-status-line": _GARBLED,
    "bad-header": _GARBLED,
    "two-lengths": _GARBLED,
    "bad-chunk-size": _GARBLED,
    "huge-header": _GARBLED,
    "endless-header": _GARBLED,
    "endless-headers": _GARBLED,
    "endless-status-line": _GARBLED,
    "extended-chunks": _HTTP,
    "closed-after": _HTTP,
    "continue-100": _HTTP,
    "early-hints-103": _HTTP,
    "http-10": _HTTP,
}
"""Rows that only a socket has, and what stands for them in the double."""
