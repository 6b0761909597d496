"""Streams that begin well. Each has said half of its answer, or all of it, when something happens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from tests.faults.catalogue.refusals import ERROR, KEEP_ALIVE, always
from tests.faults.speech import (
    COMMENT,
    DONE,
    ROLE,
    STOP,
    STREAM_HEAD,
    THOUGHT,
    USAGE,
    chunk,
    chunked,
    delta,
    event,
    events,
    pieces,
    streamed,
    tool_events,
    words,
)
from tests.faults.steps import Ending, Pause, Script, Seen, Step

A_MOMENT: Final = Pause(0.1)
"""Long enough for what was said to have arrived before the connection breaks."""

BEGUN: Final[Sequence[bytes]] = [ROLE, *words()[: len(words()) // 2]]
"""The events of half a text."""
GARBAGE: Final = b'data: {"id": "chatcmpl-1", "choices": [{"ind\n\n'
THOUGHTS: Final = [event(delta({"reasoning_content": piece})) for piece in pieces(THOUGHT)]


def begun(parts: Sequence[bytes], *rest: Step) -> Script:
    """Say some events, and then do the rest."""
    return always(STREAM_HEAD, *chunked(parts), A_MOMENT, *rest)


def ended(parts: Sequence[bytes]) -> Script:
    """Say some events and end as if all were well."""
    return always(*streamed(parts))


def broken(count: int) -> list[bytes]:
    """Return a whole answer with some broken events in its middle."""
    whole = events()
    return [*whole[:3], *[GARBAGE] * count, *whole[3:]]


def comments_midway(_: Seen) -> Iterable[Step]:
    yield STREAM_HEAD
    yield from chunked(BEGUN)
    while True:
        yield chunk(COMMENT)
        yield Pause(KEEP_ALIVE)


def too_slow(_: Seen) -> Iterable[Step]:
    """Say the text, a piece every half second: longer than a route may take."""
    yield STREAM_HEAD
    for part in events():
        yield chunk(part)
        yield Pause(0.5)


def two_choices(_: Seen) -> Iterable[Step]:
    first = events(choices=2)
    middle = next(index for index, part in enumerate(first) if b'"index": 1' in part)
    return [STREAM_HEAD, *chunked(first[: middle + 3]), A_MOMENT, Ending.FIN]


ERRORS: Final[Mapping[str, bytes]] = {
    "error-midway-openai": event(ERROR),
    "error-midway-anthropic": event(
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, name="error"
    ),
    "error-midway-text": event({"error": "the model crashed"}),
    "error-midway-vllm": event(
        {"object": "error", "message": "out of memory", "type": "InternalServerError", "code": 500}
    ),
    "error-midway-named": event({"message": "Overloaded", "code": 529}, name="error"),
    "error-midway-llama": b'error: {"code":500,"message":"out of memory","type":"server_error"}\n\n',
    "error-midway-openrouter": event(
        delta({"content": ""}, "error", error={"code": 502, "message": "Provider disconnected"}, provider="x")
    ),
}

MIDWAY: Final[Mapping[str, Script]] = {
    "cut-midway": begun(BEGUN, Ending.FIN),
    "reset-midway": begun(BEGUN, Ending.RESET),
    "cut-within-a-chunk": begun(BEGUN, b"400\r\ndata: {", A_MOMENT, Ending.FIN),
    "cut-within-an-event": always(*streamed([*BEGUN, words()[-1][:40]])),
    "ends-midway": ended(BEGUN),
    "cut-after-the-role": begun([ROLE], Ending.FIN),
    "stalls-midway": begun(BEGUN, Ending.SILENCE),
    "comments-midway": comments_midway,
    "too-slow": too_slow,
    "no-done": ended(events()[:-1]),
    "no-done-no-usage-cut": begun(events()[:-2], Ending.RESET),
    "no-done-silent": begun(events()[:-1], Ending.SILENCE),
    "no-finish-reason": ended([*BEGUN, *words()[len(words()) // 2 :]]),
    "done-without-finish": ended([*BEGUN, *words()[len(words()) // 2 :], USAGE, DONE]),
    "dropped-after-done": always(STREAM_HEAD, *chunked(events()), Ending.RESET),
    "closed-after-done": always(STREAM_HEAD, *chunked(events()), Ending.FIN),
    **{name: always(*streamed([*BEGUN, said])) for name, said in ERRORS.items()},
    **{f"broken-events-{count}": ended(broken(count)) for count in (1, 3, 4)},
    "tool-call-cut": begun(tool_events()[:2], Ending.FIN),
    "tool-call-then-error": always(*streamed([*tool_events()[:2], event(ERROR)])),
    "reasoning-cut": begun([ROLE, *THOUGHTS], Ending.FIN),
    "two-choices-one-cut": two_choices,
    "no-usage": ended([*events()[:-2], DONE]),
    "usage-with-the-finish": ended(
        [*events()[:-3], event(delta({}, "stop", usage={"prompt_tokens": 20, "completion_tokens": 12})), DONE]
    ),
    "error-after-the-finish": ended([*events()[:-2], event(ERROR)]),
    "talks-after-done": ended([*events(), *words()[:2], STOP, DONE]),
    "done-twice": ended([*events(), DONE]),
}
