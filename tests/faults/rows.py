"""The table: every fault with what must come of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tests.faults.catalogue.answers import LARGE
from tests.faults.speech import TEXT, TOOL
from tests.faults.table import (
    MIDWAY,
    Limits,
    Row,
    breaks,
    breaks_for_good,
    left,
    overflows,
    passes,
    recovers,
    refuses,
)

PLAIN: Final = ("plain",)
SILENT: Final = Limits(first=0.4, idle=0.4, plain=0.6)
IDLE: Final = Limits(idle=0.4)
TOOLS: Final = {"tools": [{"type": "function", "function": {"name": TOOL, "parameters": {"type": "object"}}}]}
POLICY: Final = "content_policy_violation"

CONNECTING: Final[Sequence[Row]] = (
    left("refused", "refuses the connection", "unavailable", "unavailable", provider="refusing"),
    left("deaf", "does not take the connection", "timeout", provider="deaf", limits=Limits(connect=0.4)),
    left("silent", "takes the request and says nothing", "timeout", limits=SILENT),
    left("silent-after-the-head", "sends the head of an answer and no more", "timeout 200", limits=SILENT),
    left(
        "silent-after-the-role",
        "says that it begins, and nothing after it",
        "timeout 200",
        shapes=MIDWAY,
        limits=SILENT,
    ),
    left("comments-only", "sends keep-alives for ever and no token", "timeout 200", limits=SILENT),
    left("closed-before-a-byte", "closes the connection without a word", "error", "error"),
    left("reset-before-a-byte", "resets the connection without a word", "error", "error"),
    left("closed-in-the-head", "closes in the middle of the head", "error", "error"),
    left("reset-in-the-head", "resets in the middle of the head", "error", "error"),
    recovers("reset-before-a-byte", "resets one connection, and is well", "error"),
    recovers("not-kept", "closes a kept connection just when it is used again", "error", before=1),
)

STATUSES: Final[Sequence[Row]] = (
    refuses("http-400", "400 with a code of its own", "refused 400", "provider_code"),
    left("http-401", "401: the operator's key is wrong", "error 401"),
    left("http-403", "403: the operator may not", "error 403"),
    left("http-404", "404: the operator's model is wrong", "error 404"),
    left("http-408", "408", "error 408"),
    refuses("http-413", "413", "refused 413", "provider_code"),
    left("http-429", "429", "rate_limited 429", "rate_limited 429"),
    *(left(f"http-{status}", f"{status}", f"error {status}", f"error {status}") for status in (500, 502, 503, 504)),
    left("http-529", "529: overloaded", "error 529"),
    recovers("http-500", "500 once, and is well", "error 500"),
    recovers("429-retry-after-1", "429 with Retry-After: 1, and is well", "rate_limited 429", gap=1.0),
    recovers("503-retry-after-1", "503 with Retry-After: 1, and is well", "error 503", gap=1.0),
    recovers("429-retry-after-a-date", "429 with a date in a moment, and is well", "rate_limited 429", gap=0.9),
    left("429-retry-after-30", "429 with Retry-After: 30", "rate_limited 429"),
    left("503-retry-after-30", "503 with Retry-After: 30", "error 503"),
    left("429-retry-after-nonsense", "429 with a Retry-After that is no time", "rate_limited 429", "rate_limited 429"),
    left("429-insufficient-quota", "429: the operator's account is empty", "rate_limited 429"),
    refuses("content-policy-400", "refuses the content, with 400", "refused 400", POLICY),
    refuses("content-policy-403", "refuses the content, with 403", "refused 403", POLICY),
    overflows("context-too-long", "the context is too long, as OpenAI says it", "context_length_exceeded"),
    overflows("context-too-long-llama", "the context is too long, as llama.cpp says it", "400"),
    *(left(f"redirect-{status}", f"{status} to another place", f"error {status}") for status in (301, 302, 307, 308)),
)

NO_ANSWERS: Final[Sequence[Row]] = (
    left("error-with-200", "200, and an error for an answer", "error 200", "error 200"),
    left("error-after-the-role", "says that it begins, and then an error", "error 200", "error 200", shapes=MIDWAY),
    left("html-with-200", "200, and a web page for an answer", "error 200", "error 200"),
    left("html-with-503", "503 with a web page", "error 503", "error 503"),
    left("empty-200", "200, and an empty body", "error 200", "error 200"),
    left("empty-stream", "a stream without an event", "error 200", "error 200"),
    left("no-choices", "a completion without choices", "error 200", "error 200"),
    left("length-too-long", "closes before the length it told", "error 200", "error 200", shapes=PLAIN),
    left("reset-in-the-body", "resets before the length it told", "error 200", "error 200", shapes=PLAIN),
    left("no-last-chunk", "closes before the last chunk", "error 200", "error 200", shapes=PLAIN),
    left("half-of-the-json", "half of the JSON, with a length that fits", "error 200", "error 200", shapes=PLAIN),
    left("stalls-in-the-body", "falls silent in the middle of the body", "timeout 200", shapes=PLAIN, limits=SILENT),
    left("http-10-cut", "HTTP/1.0, closed in the middle", "error 200", "error 200", shapes=PLAIN),
    left("gzip-cut", "compressed, without its end", "error 200", "error 200", shapes=PLAIN),
    left("cut-after-the-role", "says that it begins, and closes", "error 200", "error 200", shapes=MIDWAY),
)

BREAKING: Final[Sequence[Row]] = (
    breaks("cut-midway", "closes in the middle of its text"),
    breaks("reset-midway", "resets in the middle of its text"),
    breaks("cut-within-a-chunk", "closes in the middle of a chunk"),
    breaks("cut-within-an-event", "ends in the middle of an event"),
    breaks("ends-midway", "ends in the middle of its text as if all were well"),
    breaks("http-10-cut", "HTTP/1.0, closed in the middle of its text"),
    breaks("bad-chunk-midway", "a chunk without a size in the middle of its text", limits=IDLE),
    breaks("stalls-midway", "falls silent in the middle of its text", "timeout 200", limits=IDLE),
    breaks("comments-midway", "sends only keep-alives from the middle on", "timeout 200", limits=IDLE),
    breaks("no-finish-reason", "says all, and no finish reason"),
    breaks("done-without-finish", "says all and [DONE], and no finish reason"),
    breaks("error-midway-openai", "an error event, as OpenAI's"),
    breaks("error-midway-anthropic", "an error event, as Anthropic's"),
    breaks("error-midway-text", "an error event that is only text"),
    breaks("error-midway-vllm", "an error event, as vLLM's"),
    breaks("error-midway-named", "an event that only its name calls an error"),
    breaks("error-midway-llama", "an error field, as llama.cpp's"),
    breaks("error-midway-openrouter", "an error within a last event, as OpenRouter's"),
    breaks("broken-events-4", "four events that are not JSON"),
    breaks_for_good("tool-call-cut", "closes in the middle of a tool call", tools=True, body=TOOLS),
    breaks_for_good("tool-call-then-error", "an error event in the middle of a tool call", tools=True, body=TOOLS),
    breaks_for_good("reasoning-cut", "closes in the middle of its reasoning"),
    breaks_for_good("two-choices-one-cut", "closes with one choice of two complete", body={"n": 2}, texts=(TEXT, TEXT)),
)

ODD: Final[Sequence[Row]] = (
    passes("healthy", "nothing is wrong"),
    passes("no-done", "no [DONE]", shapes=MIDWAY, mends="[DONE] added"),
    passes("no-done-silent", "silence in place of [DONE]", shapes=MIDWAY, mends="[DONE] added"),
    passes(
        "no-done-no-usage-cut", "resets after its finish reason", shapes=MIDWAY, mends="[DONE] added", estimated=True
    ),
    passes("dropped-after-done", "resets right after [DONE]", shapes=MIDWAY),
    passes("closed-after-done", "closes right after [DONE]", shapes=MIDWAY),
    passes("broken-events-1", "one event that is not JSON", shapes=MIDWAY, mends="event dropped"),
    passes("broken-events-3", "three events that are not JSON", shapes=MIDWAY, mends="events dropped"),
    passes(
        "last-event-unended", "no blank line after the last event", shapes=MIDWAY, mends="[DONE] added", estimated=True
    ),
    passes("other-shape", "plain for a stream, a stream for plain", mends="shape changed"),
    passes("gzip", "compressed with gzip, unasked"),
    passes("deflate", "compressed with deflate, unasked"),
    left("unknown-encoding", "an encoding that nobody knows", "error", "error"),
    passes("byte-by-byte", "every byte in a packet of its own"),
    passes("one-packet", "the whole stream in one packet", shapes=MIDWAY),
    passes("line-ends-cr", "lines end in CR", shapes=MIDWAY),
    passes("line-ends-crlf", "lines end in CR LF", shapes=MIDWAY),
    passes("odd-lines", "comments, ids, data of several lines", shapes=MIDWAY),
    passes("byte-order-mark", "a byte order mark first", shapes=MIDWAY),
    passes("null-deltas", "null where text may be", shapes=MIDWAY),
    passes("says-the-text-in-one", "the whole text in one event", shapes=MIDWAY),
    passes("event-of-10-mb", "10 MB in one event", texts=(LARGE,)),
    left("endless-event", "an event without end", "error", "error", shapes=MIDWAY),
    passes("slow-trickle", "slow, each event within the limit", shapes=MIDWAY, limits=Limits(idle=2.0)),
    breaks(
        "too-slow",
        "goes on for longer than the route may take",
        "timeout 200",
        limits=Limits(total=2.0),
        charged_when_cut=True,
    ),
    passes(
        "error-after-the-finish",
        "an error event after the finish reason",
        shapes=MIDWAY,
        mends="[DONE] added",
        estimated=True,
    ),
    passes("talks-after-done", "goes on after [DONE]", shapes=MIDWAY),
    passes("done-twice", "[DONE] twice", shapes=MIDWAY),
    passes("no-choices-first", "an event without choices first, as Azure's", shapes=MIDWAY),
    passes("empty-finish-reasons", "empty finish reasons before the last", shapes=MIDWAY),
    passes("half-characters", "half a character in an event", shapes=MIDWAY),
    passes("no-content-type", "no content type"),
    passes("usage-in-every-event", "usage in every event", shapes=MIDWAY),
    passes("no-usage", "no usage", shapes=MIDWAY, estimated=True),
    passes("usage-with-the-finish", "usage with the finish reason", shapes=MIDWAY),
    passes("usage-negative", "usage below nothing", estimated=True),
    passes("usage-absurd", "usage beyond belief", estimated=True),
    passes("usage-of-text", "usage in words", estimated=True),
    passes("usage-null", "usage without figures", estimated=True),
)

WIRE: Final[Sequence[Row]] = (
    left("not-http", "speaks something else", "error", "error"),
    left("bad-status-line", "a status line without a status", "error", "error"),
    left("bad-header", "a header without a colon", "error", "error"),
    left("two-lengths", "two lengths that differ", "error", "error"),
    left("bad-chunk-size", "a chunk without a size", "error", "error"),
    left("huge-header", "a header of 1 MB", "error", "error"),
    left("endless-header", "a header without end", "error", "error"),
    left("endless-headers", "headers without end", "error", "error"),
    left("endless-status-line", "a status line without end", "error", "error"),
    left("endless-100", "informational heads for ever", "timeout", limits=SILENT),
    left("no-content-204", "204 and no content", "error 204"),
    left("refusal-stalls", "429, and falls silent in its reason", "rate_limited 429", "rate_limited 429"),
    refuses("endless-refusal", "400 with a reason without end", "refused 400", None),
    passes("extended-chunks", "chunks with extensions and a trailer"),
    passes("closed-after", "closes every connection after its answer", before=1),
    passes("continue-100", "100 Continue before the answer"),
    passes("early-hints-103", "103 Early Hints before the answer"),
    passes("http-10", "HTTP/1.0 without a length"),
)

TABLE: Final[Sequence[Row]] = (*CONNECTING, *STATUSES, *NO_ANSWERS, *BREAKING, *ODD, *WIRE)
