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
    refuses("http-400", "answers 400 with a code of its own", "refused 400", "provider_code"),
    left("http-401", "answers 401: the operator's key is wrong", "error 401"),
    left("http-403", "answers 403: the operator may not", "error 403"),
    left("http-404", "answers 404: the operator's model is wrong", "error 404"),
    left("http-408", "answers 408", "error 408"),
    overflows("http-413", "answers 413: the request is too large for it", "provider_code", status=413),
    left("http-429", "answers 429", "rate_limited 429", "rate_limited 429"),
    *(
        left(f"http-{status}", f"answers {status}", f"error {status}", f"error {status}")
        for status in (500, 502, 503, 504)
    ),
    left("http-529", "answers 529: overloaded", "error 529"),
    recovers("http-500", "answers 500 once, and is well", "error 500"),
    recovers("429-retry-after-1", "answers 429 with Retry-After: 1, and is well", "rate_limited 429", gap=1.0),
    recovers("503-retry-after-1", "answers 503 with Retry-After: 1, and is well", "error 503", gap=1.0),
    recovers(
        "429-retry-after-a-date",
        "answers 429 with the date of the next moment, and is well",
        "rate_limited 429",
        gap=0.9,
    ),
    left("429-retry-after-30", "answers 429 with Retry-After: 30", "rate_limited 429"),
    left("503-retry-after-30", "answers 503 with Retry-After: 30", "error 503"),
    left(
        "429-retry-after-nonsense",
        "answers 429 with a Retry-After that is no time",
        "rate_limited 429",
        "rate_limited 429",
    ),
    left("429-insufficient-quota", "answers 429: the operator's account is empty", "rate_limited 429"),
    refuses("content-policy-400", "refuses the content, with 400", "refused 400", POLICY),
    refuses("content-policy-403", "refuses the content, with 403", "refused 403", POLICY),
    overflows("context-too-long", "cannot hold the context, as OpenAI says it", "context_length_exceeded"),
    overflows("context-too-long-llama", "cannot hold the context, as llama.cpp says it", "400"),
    *(left(f"redirect-{status}", f"redirects with {status}", f"error {status}") for status in (301, 302, 307, 308)),
)

NO_ANSWERS: Final[Sequence[Row]] = (
    left("error-with-200", "answers 200, and with an error", "error 200", "error 200"),
    left("error-after-the-role", "says that it begins, and then an error", "error 200", "error 200", shapes=MIDWAY),
    left("html-with-200", "answers 200, and with a web page", "error 200", "error 200"),
    left("html-with-503", "answers 503, and with a web page", "error 503", "error 503"),
    left("empty-200", "answers 200, and with an empty body", "error 200", "error 200"),
    left("empty-stream", "sends a stream without an event", "error 200", "error 200"),
    left("no-choices", "sends a completion without choices", "error 200", "error 200"),
    left("length-too-long", "closes before the length it told", "error 200", "error 200", shapes=PLAIN),
    left("reset-in-the-body", "resets before the length it told", "error 200", "error 200", shapes=PLAIN),
    left("no-last-chunk", "closes before the last chunk", "error 200", "error 200", shapes=PLAIN),
    left("half-of-the-json", "sends half of the JSON, with a length that fits", "error 200", "error 200", shapes=PLAIN),
    left("stalls-in-the-body", "falls silent in the middle of the body", "timeout 200", shapes=PLAIN, limits=SILENT),
    left("http-10-cut", "speaks HTTP/1.0 and closes in the middle", "error 200", "error 200", shapes=PLAIN),
    left("gzip-cut", "compresses its answer and leaves out the end", "error 200", "error 200", shapes=PLAIN),
    left("cut-after-the-role", "says that it begins, and closes", "error 200", "error 200", shapes=MIDWAY),
)

BREAKING: Final[Sequence[Row]] = (
    breaks("cut-midway", "closes in the middle of its text"),
    breaks("reset-midway", "resets in the middle of its text"),
    breaks("cut-within-a-chunk", "closes in the middle of a chunk"),
    breaks("cut-within-an-event", "ends in the middle of an event"),
    breaks("ends-midway", "ends in the middle of its text as if all were well"),
    breaks("http-10-cut", "speaks HTTP/1.0 and closes in the middle of its text"),
    breaks("bad-chunk-midway", "sends a chunk without a size in the middle of its text", limits=IDLE),
    breaks("stalls-midway", "falls silent in the middle of its text", "timeout 200", limits=IDLE),
    breaks("comments-midway", "sends only keep-alives from the middle on", "timeout 200", limits=IDLE),
    breaks("no-finish-reason", "says all and no finish reason"),
    breaks("done-without-finish", "says all and [DONE], and no finish reason"),
    breaks("error-midway-openai", "sends an error event in mid-stream, as OpenAI"),
    breaks("error-midway-anthropic", "sends an error event in mid-stream, as Anthropic"),
    breaks("error-midway-text", "sends an error event in mid-stream that is only text"),
    breaks("error-midway-vllm", "sends an error event in mid-stream, as vLLM"),
    breaks("error-midway-named", "sends an event in mid-stream that only its name calls an error"),
    breaks("error-midway-llama", "sends an error field in mid-stream, as llama.cpp"),
    breaks("error-midway-openrouter", "sends an error within an event, as OpenRouter"),
    breaks("broken-events-4", "sends four events that are not JSON"),
    breaks_for_good("tool-call-cut", "closes in the middle of a tool call", tools=True, body=TOOLS),
    breaks_for_good(
        "tool-call-then-error", "sends an error event in the middle of a tool call", tools=True, body=TOOLS
    ),
    breaks_for_good("reasoning-cut", "closes in the middle of its reasoning"),
    breaks_for_good("two-choices-one-cut", "closes with one choice of two complete", body={"n": 2}, texts=(TEXT, TEXT)),
)

ODD: Final[Sequence[Row]] = (
    passes("healthy", "is well"),
    passes("no-done", "sends no [DONE]", shapes=MIDWAY, mends="[DONE] added"),
    passes("no-done-silent", "falls silent in place of [DONE]", shapes=MIDWAY, mends="[DONE] added"),
    passes(
        "no-done-no-usage-cut", "resets after its finish reason", shapes=MIDWAY, mends="[DONE] added", estimated=True
    ),
    passes("dropped-after-done", "resets right after [DONE]", shapes=MIDWAY),
    passes("closed-after-done", "closes right after [DONE]", shapes=MIDWAY),
    passes("broken-events-1", "sends one event that is not JSON", shapes=MIDWAY, mends="event dropped"),
    passes("broken-events-3", "sends three events that are not JSON", shapes=MIDWAY, mends="events dropped"),
    passes(
        "last-event-unended",
        "sends no blank line after the last event",
        shapes=MIDWAY,
        mends="[DONE] added",
        estimated=True,
    ),
    passes("other-shape", "sends a plain answer for a stream, and the reverse", mends="shape changed"),
    passes("gzip", "compresses with gzip, unasked"),
    passes("deflate", "compresses with deflate, unasked"),
    left("unknown-encoding", "uses an encoding that nobody knows", "error", "error"),
    passes("byte-by-byte", "sends every byte in a packet of its own"),
    passes("one-packet", "sends the whole stream in one packet", shapes=MIDWAY),
    passes("line-ends-cr", "ends lines with CR", shapes=MIDWAY),
    passes("line-ends-crlf", "ends lines with CR LF", shapes=MIDWAY),
    passes("odd-lines", "sends comments, ids, data of several lines", shapes=MIDWAY),
    passes("byte-order-mark", "sends a byte order mark first", shapes=MIDWAY),
    passes("null-deltas", "sends null where text may be", shapes=MIDWAY),
    passes("says-the-text-in-one", "sends the whole text in one event", shapes=MIDWAY),
    passes("event-of-10-mb", "sends 10 MB in one event", texts=(LARGE,)),
    left("endless-event", "sends an event without end", "error", "error", shapes=MIDWAY),
    passes("slow-trickle", "is slow, each event within the limit", shapes=MIDWAY, limits=Limits(idle=2.0)),
    breaks(
        "too-slow",
        "takes longer than its route may",
        "timeout 200",
        limits=Limits(total=2.0),
        charged_when_cut=True,
    ),
    passes(
        "error-after-the-finish",
        "sends an error event after the finish reason",
        shapes=MIDWAY,
        mends="[DONE] added",
        estimated=True,
    ),
    passes("talks-after-done", "goes on after [DONE]", shapes=MIDWAY),
    passes("done-twice", "sends [DONE] twice", shapes=MIDWAY),
    passes("no-choices-first", "sends an event without choices first, as Azure", shapes=MIDWAY),
    passes("empty-finish-reasons", "sends empty finish reasons before the last", shapes=MIDWAY),
    passes("half-characters", "sends half a character in an event", shapes=MIDWAY),
    passes("no-content-type", "names no content type"),
    passes("usage-in-every-event", "tells usage in every event", shapes=MIDWAY),
    passes("no-usage", "tells no usage", shapes=MIDWAY, estimated=True),
    passes("usage-with-the-finish", "tells usage with the finish reason", shapes=MIDWAY),
    passes("usage-negative", "tells usage below nothing", estimated=True),
    passes("usage-absurd", "tells usage beyond belief", estimated=True),
    passes("usage-of-text", "tells usage in words", estimated=True),
    passes("usage-null", "tells usage without figures", estimated=True),
)

WIRE: Final[Sequence[Row]] = (
    left("not-http", "speaks something else", "error", "error"),
    left("bad-status-line", "sends a status line without a status", "error", "error"),
    left("bad-header", "sends a header without a colon", "error", "error"),
    left("two-lengths", "tells two lengths that differ", "error", "error"),
    left("bad-chunk-size", "sends a chunk without a size", "error", "error"),
    left("huge-header", "sends a header of 1 MB", "error", "error"),
    left("endless-header", "sends a header without end", "error", "error"),
    left("endless-headers", "sends headers without end", "error", "error"),
    left("endless-status-line", "sends a status line without end", "error", "error"),
    left("endless-100", "sends informational heads for ever", "timeout", limits=SILENT),
    left("no-content-204", "answers 204 and no content", "error 204"),
    left("refusal-stalls", "answers 429, and falls silent in its reason", "rate_limited 429", "rate_limited 429"),
    refuses("endless-refusal", "answers 400 with a reason without end", "refused 400", None),
    passes("extended-chunks", "sends chunks with extensions, and a trailer"),
    passes("closed-after", "closes every connection after its answer", before=1),
    passes("continue-100", "sends 100 Continue before the answer"),
    passes("early-hints-103", "sends 103 Early Hints before the answer"),
    passes("http-10", "speaks HTTP/1.0 without a length"),
)

TABLE: Final[Sequence[Row]] = (*CONNECTING, *STATUSES, *NO_ANSWERS, *BREAKING, *ODD, *WIRE)
