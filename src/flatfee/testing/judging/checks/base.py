"""What checks are given and give, and the words that they share. No rule of its own."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Final, NamedTuple

from pydantic import AfterValidator, Field

from flatfee.testing.judging.calls import LogicalCall, calls_of
from flatfee.testing.judging.entry import Ending, Entry
from flatfee.testing.scripting.closed import Closed

_MOST_NAMED: Final = 8


Seconds = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class Limits(Closed):
    """What a client is allowed. Times are in seconds of the gateway's clock.

    ``tolerance`` is what timers may be early or late by. ``settle`` is how many real seconds a verdict waits for
    streams that are just ending. ``skip`` names rules that are not applied. ``slots``: named workflows must be
    released; ``None``: if the client releases any. ``must_retry``: a failure that may be retried is.
    ``must_key``: what may have been served already is sent again with an idempotency key only.
    ``same_workflow``: what met the workflow limit comes again under the same id.
    """

    tolerance: Seconds = 0.05
    settle: Seconds = 1.0
    most_tries: Count = 6
    shortest_wait: Seconds = 0.1
    steady_wait: Seconds = 1.0
    most_per_second: Count = 10
    slots: bool | None = None
    must_retry: bool = False
    must_key: bool = False
    same_workflow: bool = False
    skip: Annotated[Sequence[str], AfterValidator(tuple)] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """Something that a client should not have done. ``message`` says what and what to do; it has no prompt in it."""

    rule: str
    message: str
    requests: tuple[Entry, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it ready to be written as JSON, its requests by name."""
        return {"rule": self.rule, "message": self.message, "requests": [entry.name for entry in self.requests]}

    def __str__(self) -> str:
        return f"{self.rule}: {self.message}"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a verdict is made of. ``active`` are the workflows that hold a slot; ``None``: nobody knows."""

    entries: Sequence[Entry]
    active: Collection[str] | None = None

    @cached_property
    def completions(self) -> list[Entry]:
        """The requests for completions."""
        return [entry for entry in self.entries if entry.is_completion]

    @cached_property
    def calls(self) -> tuple[LogicalCall, ...]:
        """What was asked, but for releases, which may be repeated as one likes."""
        return calls_of(entry for entry in self.entries if entry.method != "DELETE")


class Wrong(NamedTuple):
    """What a check yields: a message, and the requests that it is about."""

    message: str
    requests: Sequence[Entry]


Found = Iterator[Wrong]


def failure(entry: Entry) -> str:
    """Say how a request failed."""
    code = f" {entry.code}" if entry.code else ""
    if entry.failed_midway:
        return f"an error{code} in mid-stream" if entry.answered.error else "a cut in mid-stream"
    if entry.ending == Ending.LEFT:
        return "nothing, since the client hung up"
    return f"{entry.status}{code}" if entry.status and entry.status != 200 else "a cut connection"


def names(entries: Sequence[Entry]) -> str:
    """Name requests: ``#1, #2 and #3``."""
    listed = [entry.name for entry in entries[:_MOST_NAMED]]
    more = len(entries) - len(listed)
    if more:
        return f"{', '.join(listed)} and {more:,} more"
    return " and ".join([", ".join(listed[:-1]), listed[-1]] if len(listed) > 1 else listed)


def seconds(value: float) -> str:
    """Write seconds as people read them."""
    return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"
