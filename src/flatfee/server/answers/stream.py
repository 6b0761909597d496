"""A streamed answer on its way through. Sans I/O: bytes in, bytes out.

It is passed on event by event, and in one piece where many came so; an event that may be its last is held
back until another comes or the figures are settled, and then carries the receipt. Nothing else is rewritten,
but for a receipt that the provider had put in, and where it goes on from another answer.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from flatfee.server.answers.alike import Alike
from flatfee.server.answers.joint import MOST_REMEMBERED, NO_OUTPUT, Diverged, Half, Joint
from flatfee.server.answers.lenient import REPLACED, UNREADABLE, decoded
from flatfee.server.answers.members import (
    BROKEN_OFF,
    UnusableAnswer,
    is_error,
    members,
    size_of,
    splice,
    told_usage,
    without_receipt,
)
from flatfee.server.answers.sse import DONE, LINE_END, EventCutter, cut_events, is_named_error, payload_of
from flatfee.server.statement import UsedTokens

MAX_EVENT: Final = 16 * 1024 * 1024
MAX_BROKEN_EVENTS: Final = 3

MOST_IN_VAIN: Final = 16
"""After so many events in a row that none was like, the events of this answer differ in more than their text."""


class _Choice(msgspec.Struct):
    index: int = 0
    delta: dict[str, Raw] | list[Raw] | None = None  # some write an empty one as a list
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: Raw | UnsetType = UNSET
    flatfee: Raw | UnsetType = UNSET
    obfuscation: Raw | UnsetType = UNSET  # OpenAI's padding


class _Trouble(msgspec.Struct):
    error: Raw | UnsetType = UNSET
    object: Raw | UnsetType = UNSET  # "error" in vLLM's errors, whose members stand where a chunk's would


_chunk = msgspec.json.Decoder(_Chunk)
_STRANGE: Final = _Chunk()
"""An event of a shape that we do not know."""

_trouble = msgspec.json.Decoder(_Trouble)


class RelayedStream:
    """One streamed answer on its way through.

    ``whole`` once every choice that began has its finish reason, ``done`` once nothing more can come.
    ``tokens`` counts what ends a silence: output, or a finish reason; an event that only names the role
    does not. ``delivered`` counts bytes of output; ``passed_on`` once the caller is to get some.
    ``failure`` is set once the answer is of no use: an error event, too many broken events, one without
    end, or, with a joint, another answer than the caller has.

    With a ``joint`` the answer goes on from what the caller has; ``remember`` is for an answer that another
    may have to go on from.
    """

    def __init__(
        self, *, include_usage: bool, choices: int = 1, joint: Joint | None = None, remember: bool = False
    ) -> None:
        self._include_usage = include_usage
        self._choices = choices
        self._joint = joint
        self._text: bytearray | None = bytearray() if remember and joint is None else None
        self._first = b""
        self._cutter = EventCutter()
        self._held = b""
        self._alike: Alike | None = None
        self._in_vain = 0
        self._open: set[int] = set()
        self._finished: set[int] = set()
        self._broken = 0
        self.done = False
        self.usage: UsedTokens | None = None
        self.tokens = 0
        self.delivered = 0
        self.passed_on = False
        self.failure: UnusableAnswer | Diverged | None = None

    @property
    def whole(self) -> bool:
        """Tell whether the answer is complete, if it ends here."""
        return bool(self._finished) and not self._open

    @property
    def over(self) -> bool:
        """Tell whether every choice asked for is complete: but for usage and ``[DONE]``, nothing is missing."""
        return len(self._finished) >= self._choices and self.whole

    @property
    def ended_well(self) -> bool:
        """Tell whether nothing is missing, now that no more comes.

        Fewer choices than were asked for are the provider's choice only if it says that it is done.
        """
        return self.over or (self.whole and self.done)

    @property
    def _takes_runs(self) -> bool:
        """Whether an event of nothing but text goes on to the caller as it is."""
        return not (self._finished or self.done or self.failure)

    def feed(self, data: bytes) -> bytes:
        """Take bytes from the provider; return the bytes that go on to the caller now.

        From a ``failure`` on nothing is taken any more. What came before it, in the same bytes too, is
        returned: what was heard and what the caller gets are always the same.
        """
        if self._alike is not None and not self._cutter.waiting and data.endswith(b"\n\n") and self._takes_runs:
            end, texts = self._alike.run(data, 0)
            if texts and end == len(data):  # most pieces are: one event, or a few, of nothing but text
                self._hear_texts(texts)
                return data
        out: list[bytes] = []
        if self.failure is None:
            self._take_all(self._cutter.whole(data), out)
            if self._cutter.waiting > MAX_EVENT:
                self.failure = UnusableAnswer(f"has an event of more than {MAX_EVENT} bytes")
        return b"".join(out)

    def end(self) -> bytes:
        """Take the end of the provider's bytes: a last event may lack its blank line."""
        rest = self._cutter.rest()
        out: list[bytes] = []
        if payload_of(rest) and self.failure is None:
            self._take_all(rest.rstrip(b"\r\n") + b"\n\n", out)
        return b"".join(out)

    def _take_all(self, data: bytes, out: list[bytes]) -> None:
        """Take the events that end in data; what is behind them is kept."""
        if not data:
            return
        try:
            self._cutter.keep(self._take_mixed(data, out) if b"\r" in data else self._take_runs(data, out))
        except (UnusableAnswer, Diverged) as error:
            self.failure = error

    def _take_mixed(self, data: bytes, out: list[bytes]) -> bytes:
        events, rest = cut_events(data)
        for event in events:
            if not self.done:
                self._take(event, out)
        return rest

    def _take_runs(self, data: bytes, out: list[bytes]) -> bytes:
        """Take events that end in two LF, those that are alike in one go: that costs a hundredth of reading them."""
        start = 0
        while (end := data.find(b"\n\n", start) + 2) >= 2:
            begin = start
            if self._alike is not None and self._takes_runs:
                start, texts = self._alike.run(data, begin)
                if texts:
                    self._hear_texts(texts)
                    out.append(data[begin:start])
                    continue
            if not self.done:
                self._take(data[start:end], out)
            start = end
        return data[start:]

    def _hear_texts(self, texts: list[bytes]) -> None:
        """Measure the texts of events that are alike; the one that was read has told what kind of text they are."""
        self._in_vain = 0
        text = b"".join(texts)
        self.tokens += len(texts) - texts.count(b"")
        self.delivered += len(text)
        if self._text is None:
            return
        # Two texts may meet so that it seems to be in them: then each is looked at.
        replaced = REPLACED in text and any(REPLACED in one for one in texts)
        if replaced or len(self._text) + len(text) > MOST_REMEMBERED:
            self._text = None
        else:
            self._text += text

    def tail(self, receipt: bytes) -> bytes:
        """Return the event that was held back, the receipt in it, and ``[DONE]``. The answer must be whole."""
        return _with_receipt(self._held, receipt) + DONE

    def _take(self, event: bytes, out: list[bytes]) -> None:
        payload = payload_of(event)
        if not payload:
            if self._joint is None or not self._joint.repeating:
                out.append(event)
            return
        if payload == b"[DONE]":
            self.done = True
            return
        of_an_error = b"error" in event
        if of_an_error and is_named_error(event):
            raise UnusableAnswer("has an error in mid-stream")
        try:
            chunk = _read_chunk(payload)
        except UNREADABLE as error:
            self._broken += 1
            if self._broken > MAX_BROKEN_EVENTS:
                raise UnusableAnswer(f"has more than {MAX_BROKEN_EVENTS} broken events") from error
            return
        if of_an_error and _tells_trouble(payload):
            raise UnusableAnswer("has an error in mid-stream")
        self._read(event, payload, chunk, out)

    def _read(self, event: bytes, payload: bytes, chunk: _Chunk, out: list[bytes]) -> None:
        if self._joint is not None or chunk.flatfee is not UNSET or chunk is _STRANGE:
            event = self._fitted(event, payload, chunk)  # first: of another answer, nothing is to be noted
        if chunk.usage is not UNSET:
            self._note_usage(chunk.usage)
        for choice in chunk.choices or ():
            if choice.finish_reason in BROKEN_OFF:
                raise UnusableAnswer("was broken off by its provider")
            if isinstance(choice.delta, dict):
                self._hear(choice.index, choice.delta)
            if choice.index:
                self._text = None  # a second one is no part of one text
            if choice.finish_reason:
                self.tokens += 1
                self._finished.add(choice.index)
                self._open.discard(choice.index)
            elif choice.index not in self._finished:
                self._open.add(choice.index)
        ours = not chunk.choices and size_of(chunk.usage) and not self._include_usage
        if event and not ours:  # usage that we asked for, not the caller
            self._forward(event, payload, out)
            self._learn(event, chunk)

    def _learn(self, event: bytes, chunk: _Chunk) -> None:
        """Keep an event that says one text and nothing else, by which others are known without being read."""
        if self._joint is not None or chunk.choices is None or len(chunk.choices) != 1 or size_of(chunk.usage):
            return
        delta = chunk.choices[0].delta
        if chunk.choices[0].finish_reason or not isinstance(delta, dict):
            return
        said = [value for name, value in delta.items() if name not in NO_OUTPUT and size_of(value)]
        if len(said) == 1 and self._in_vain < MOST_IN_VAIN and (text := bytes(said[0])).startswith(b'"'):
            self._in_vain += 1
            padding = bytes(chunk.obfuscation) if chunk.obfuscation is not UNSET else b""
            self._alike = Alike.to(event, text, padding)

    def _fitted(self, event: bytes, payload: bytes, chunk: _Chunk) -> bytes:
        """Return an event as the caller is to get it; empty if it gets nothing."""
        if chunk is _STRANGE:
            self._text = None  # who could go on, if we do not know what it says?
        if self._joint is not None:
            return self._joint.fit(event, payload)
        told = chunk.flatfee is not UNSET or b'"flatfee"' in payload
        return _with_receipt(event, None) if told else event

    def _hear(self, index: int, delta: dict[str, Raw]) -> None:
        """Measure what a delta says; a member that we do not know is output as well, if it is not empty."""
        content = delta.get("content")
        piece = bytes(content) if content is not None else b""
        is_text = piece[:1] == b'"'
        text = len(piece) - 2 if is_text else size_of(content) if content is not None else 0
        more = 0 if text and len(delta) == 1 else _beyond_text(delta)
        if not (text or more):
            return
        self.tokens += 1
        self.delivered += text + more
        if self._text is None:
            return
        if more or index or not is_text or REPLACED in piece or len(self._text) + text > MOST_REMEMBERED:
            self._text = None  # what is not one text, nobody can go on with
        else:
            self._text += piece[1:-1]  # as it stands between its quotes

    def _note_usage(self, usage: Raw | UnsetType) -> None:
        """Keep what was told last; zeros behind real figures are none."""
        told = told_usage(usage)
        if told is not None and (self.usage is None or told.prompt_tokens or told.completion_tokens):
            self.usage = told

    def _forward(self, event: bytes, payload: bytes, out: list[bytes]) -> None:
        """Pass an event on; one that may be the last stays behind until another comes."""
        if self.tokens and not self.passed_on:
            self.passed_on = True
            self._first = payload if self._text is not None else b""
        if self._held:
            out.append(self._held)
            self._held = b""
        if self._finished and not self._open:
            self._held = event
        else:
            out.append(event)

    def half(self) -> Half | None:
        """Return what another route could go on from, if this answer broke off here; ``None``: from nothing."""
        if self._joint is not None:
            return self._joint.half()
        return Half.of(self._text, self._first) if self._text is not None else None


def _read_chunk(payload: bytes) -> _Chunk:
    """Read an event's object; of one whose shape we do not know, nothing is read."""
    try:
        return _chunk.decode(payload)
    except msgspec.DecodeError:
        pass
    try:
        return decoded(_chunk, payload)
    except msgspec.ValidationError:
        decoded(members, payload)  # JSON at all, and an object
        return _STRANGE


def _beyond_text(delta: dict[str, Raw]) -> int:
    """Return about how many bytes of output a delta holds besides text."""
    thoughts = others = 0
    for name, value in delta.items():
        if name == "content" or name in NO_OUTPUT:
            continue
        if name.startswith("reasoning"):
            thoughts = max(thoughts, size_of(value))  # some send the same under several names
        else:
            others += size_of(value)
    return thoughts + others


def _tells_trouble(payload: bytes) -> bool:
    told = decoded(_trouble, payload)
    return is_error(told.error) or (told.object is not UNSET and bytes(told.object) == b'"error"')


def _with_receipt(event: bytes, receipt: bytes | None) -> bytes:
    """Put our receipt, or none, into an event in place of one that the provider, a gateway as well, had put in."""
    payload = payload_of(event) or b"{}"
    data = without_receipt(payload) if b'"flatfee"' in payload else payload
    if receipt is not None:
        data = splice(data, receipt)
    others = [line for line in LINE_END.split(event) if line and not line.startswith(b"data:")]
    return b"\n".join([*others, *(b"data: " + line for line in data.split(b"\n"))]) + b"\n\n"
