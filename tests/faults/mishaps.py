"""What goes wrong in the mixed soak: for each try of a request one fault or none, drawn by its seed.

A draw depends on the seed, the request's number, the model and how often that was tried, and on
nothing else: not on the order in which requests come. What is sent describes itself (``telling``).
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.faults import speech
from tests.faults.catalogue.refusals import REFUSALS
from tests.faults.steps import Ending, Pause, Script, Seen, Step
from tests.faults.telling import VOICES, arguments_of, pieces_of, text_of

NO_ANSWER: Final = (
    "http-401",
    "http-408",
    "http-429",
    "http-500",
    "http-502",
    "http-503",
    "http-529",
    "redirect-302",
    "silent",
    "silent-after-the-head",
    "comments-only",
    "closed-before-a-byte",
    "reset-before-a-byte",
    "closed-in-the-head",
    "reset-in-the-head",
    "429-retry-after-1",
    "429-retry-after-30",
    "429-insufficient-quota",
    "503-retry-after-30",
    "content-policy-400",
    "context-too-long",
    "error-with-200",
    "html-with-200",
    "empty-200",
    "no-choices",
    "length-too-long",
    "reset-in-the-body",
    "half-of-the-json",
    "stalls-in-the-body",
)
"""Names of the catalogue that never answer, whatever was asked."""

_GARBAGE: Final = b'data: {"id": "chatcmpl-1", "choices": [{"ind\n\n'
_A_MOMENT: Final = Pause(0.02)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer: its events for a stream, and its body for a plain one. ``begun`` are the events of its half."""

    events: Sequence[bytes]
    begun: Sequence[bytes]
    body: bytes


def answer_of(seen: Seen, voice: str) -> Answer:
    """Return what a healthy model answers; a text that was begun is continued in its voice."""
    asked = json.loads(next(each["content"] for each in seen.body["messages"] if each["role"] == "user"))
    number, words = asked["number"], asked["words"]
    if seen.body.get("tools"):
        return _tool_call(arguments_of(number, words, voice), words)
    text, last = text_of(number, words, voice), seen.body["messages"][-1]
    if last["role"] == "assistant":
        # What nobody has said is answered anew: the caller sees that its text is of no one piece then.
        texts = (text_of(number, words, each) for each in VOICES)
        rests = (each.removeprefix(last["content"]) for each in texts if each.startswith(last["content"]))
        text = next(rests, text)
    said = [speech.event(speech.delta({"content": piece})) for piece in pieces_of(text)]
    usage = speech.usage(20, words)
    return Answer(
        events=[speech.ROLE, *said, speech.STOP, _usage(words), speech.DONE],
        begun=[speech.ROLE, *said[: len(said) // 2]],
        body=speech.completion(text, told=usage),
    )


def _usage(words: int) -> bytes:
    return speech.event({"id": "chatcmpl-1", "choices": [], "usage": speech.usage(20, words)})


def _tool_call(arguments: str, words: int) -> Answer:
    function = {"name": "tell", "arguments": arguments}
    call = {"id": "call_1", "type": "function", "function": function}
    said = speech.tool_events(arguments)
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    body = {"id": "chatcmpl-1", "created": 1, "choices": [choice], "usage": speech.usage(20, words)}
    finish = speech.event(speech.delta({}, "tool_calls"))
    return Answer(events=[*said, finish, _usage(words), speech.DONE], begun=said[:2], body=json.dumps(body).encode())


Mishap = Callable[[Seen, Answer, random.Random], Iterable[Step]]


def _whole(seen: Seen, answer: Answer, _: random.Random) -> Iterable[Step]:
    return speech.streamed(answer.events) if seen.stream else [speech.sized(answer.body)]


def _slowly(seen: Seen, answer: Answer, rng: random.Random) -> Iterator[Step]:
    for step in _whole(seen, answer, rng):
        yield step
        if rng.random() < 0.1:
            yield Pause(rng.uniform(0.0, 0.1))


def _in_odd_pieces(seen: Seen, answer: Answer, rng: random.Random) -> Iterator[Step]:
    whole = b"".join(part for part in _whole(seen, answer, rng) if isinstance(part, bytes))
    while whole:
        size = rng.choice((1, 7, 100, 3000))
        yield whole[:size]
        whole = whole[size:]


def _other_shape(seen: Seen, answer: Answer, _: random.Random) -> Iterable[Step]:
    return [speech.sized(answer.body)] if seen.stream else speech.streamed(answer.events)


def _without(*, done: bool, usage: bool, ending: Ending | None = None) -> Mishap:
    """Leave out the end of a stream; its answer is whole all the same."""

    def sent(seen: Seen, answer: Answer, rng: random.Random) -> Iterable[Step]:
        if not seen.stream:
            return _whole(seen, answer, rng)
        *said, told, last = answer.events
        parts = [*said, *([told] if usage else []), *([last] if done else [])]
        end: list[Step] = [speech.LAST_CHUNK] if ending is None else [ending]
        return [speech.STREAM_HEAD, *speech.chunked(parts), *end]

    return sent


def _broken_events(count: int) -> Mishap:
    def sent(seen: Seen, answer: Answer, rng: random.Random) -> Iterable[Step]:
        first, *rest = answer.events
        parts = [first, *[_GARBAGE] * count, *rest]
        return speech.streamed(parts) if seen.stream else _whole(seen, answer, rng)

    return sent


def _half(*rest: Step) -> Mishap:
    """Say half of the answer, and then do the rest."""

    def sent(seen: Seen, answer: Answer, _: random.Random) -> Iterator[Step]:
        if seen.stream:
            yield from (speech.STREAM_HEAD, *speech.chunked(answer.begun), _A_MOMENT, *rest)
            return
        whole = speech.sized(answer.body)
        yield from (whole[: len(whole) - len(answer.body) // 2], _A_MOMENT)
        yield Ending.SILENCE if Ending.SILENCE in rest else Ending.RESET if Ending.RESET in rest else Ending.FIN

    return sent


def _half_well_ended(*rest: bytes) -> Mishap:
    """Say half of the answer, then perhaps something else, and end as if all were well."""

    def sent(seen: Seen, answer: Answer, _: random.Random) -> Iterable[Step]:
        if seen.stream:
            return speech.streamed([*answer.begun, *rest])
        return [speech.sized(answer.body[: len(answer.body) // 2])]

    return sent


HARMLESS: Final[Mapping[str, Mishap]] = {
    "whole": _whole,
    "slowly": _slowly,
    "in odd pieces": _in_odd_pieces,
    "other shape": _other_shape,
    "no [DONE]": _without(done=False, usage=True),
    "no usage": _without(done=True, usage=False),
    "reset after the finish": _without(done=False, usage=False, ending=Ending.RESET),
    "closed after [DONE]": _without(done=True, usage=True, ending=Ending.FIN),
    "three broken events": _broken_events(3),
}
"""The caller gets the whole answer of this very try."""

MIDWAY: Final[Mapping[str, Mishap]] = {
    "closed midway": _half(Ending.FIN),
    "reset midway": _half(Ending.RESET),
    "stalled midway": _half(Ending.SILENCE),
    "bad chunk midway": _half(b"zz\r\n", Ending.SILENCE),
    "ended midway": _half_well_ended(),
    "[DONE] midway": _half_well_ended(speech.DONE),
    "error midway": _half_well_ended(speech.event({"error": {"message": "overloaded", "code": 502}})),
    "four broken events": _broken_events(4),
}
"""Something was said before it failed."""


@dataclass
class Mishaps:
    """A script for every model of a soak. ``likely`` are the chances of a fault, by model.

    ``tries`` counts the tries by request and model, ``played`` what they met.
    """

    seed: int
    likely: Mapping[str, float]
    tries: Counter[tuple[int, str]] = field(default_factory=Counter)
    played: Counter[str] = field(default_factory=Counter)

    def __call__(self, seen: Seen) -> Iterable[Step]:
        """Draw what a try meets, and return its steps."""
        asked: Mapping[str, Any] = json.loads(
            next(each["content"] for each in seen.body["messages"] if each["role"] == "user")
        )
        key = asked["number"], seen.model
        self.tries[key] += 1
        rng = random.Random(f"{self.seed}:{key}:{self.tries[key]}")
        voice = VOICES[rng.random() < 0.1]
        name, script = self._drawn(seen, rng, voice)
        self.played[name] += 1
        return script(seen)

    def _drawn(self, seen: Seen, rng: random.Random, voice: str) -> tuple[str, Script]:
        if rng.random() >= self.likely[seen.model]:
            name, mishap = rng.choice(list(HARMLESS.items()))
        elif rng.random() < 0.5:
            name = rng.choice(NO_ANSWER)
            return name, REFUSALS[name]
        else:
            name, mishap = rng.choice(list(MIDWAY.items()))
        return name, lambda seen: mishap(seen, answer_of(seen, voice), rng)
