"""One tape: a request to a provider and what came of it, as it stands in a file. Pure: files are ``folder``'s.

The file is JSON that people read and edit. A stream's events have a line each.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from flatfee.testing.tapes.spelling import Style, pretty, read
from flatfee.wire import AttemptOutcome, Tier

FORMAT: Final = 1
"""What this version of flatfee writes, and reads."""

_CONTENT: Final = ("body", "text", "bytes", "events")
_EVENT: Final = ("data", "text", "bytes")

Milliseconds = Annotated[float, Field(ge=0, le=86_400_000)]


_F = TypeVar("_F", bound=BaseModel)


class TapeError(Exception):
    """A tape cannot be used, or none can be written. The message names the file, the key and the cure."""


class _Form(BaseModel):
    """Base of every part: frozen, and closed to keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Event(_Form):
    """One event of a stream, ``at_ms`` after the request was sent; those of one moment came in one piece.

    ``data`` is what it says: JSON, or text such as ``[DONE]``. An event that is more than its data, or is broken,
    stands in ``text`` as it came, line ends included; one that is not UTF-8 in ``bytes``, a character for each.
    """

    at_ms: Milliseconds
    data: Any = None
    text: str | None = None
    bytes: str | None = None

    @model_validator(mode="after")
    def _says_one_thing(self) -> Event:
        return _only_one_of(self, _EVENT, required=True)


class Broken(_Form):
    """How the connection failed, ``at_ms`` after the request was sent."""

    outcome: Literal[AttemptOutcome.TIMEOUT, AttemptOutcome.UNAVAILABLE, AttemptOutcome.ERROR]
    message: str = "broke off"
    at_ms: Milliseconds


class Answer(_Form):
    """What came: a head after ``head_ms``, then a ``body`` of JSON, a ``text``, ``bytes``, or ``events``.

    ``style`` is how the provider spaced its JSON, ``line_end`` how it ended the lines of its events. ``partial``: the
    caller, or a time limit of the gateway, ended it; what would have come next is not known. Without ``status`` no
    head came. ``ended_ms`` is when it was over.
    """

    status: int | None = Field(default=None, ge=100, le=599)
    head_ms: Milliseconds | None = None
    headers: Mapping[str, str] = Field(default_factory=dict)
    style: Style = Style.COMPACT
    line_end: Literal["\n", "\r\n", "\r"] = "\n"
    body: Any = None
    text: str | None = None
    bytes: str | None = None
    events: tuple[Event, ...] | None = None
    failure: Broken | None = None
    partial: bool = False
    ended_ms: Milliseconds

    @model_validator(mode="after")
    def _says_one_thing(self) -> Answer:
        if self.status is None and self.failure is None and not self.partial:
            raise ValueError("has neither status nor failure; give the status of the answer")
        return _only_one_of(self, _CONTENT, required=False)

    @property
    def last_ms(self) -> float:
        """When the last of it came."""
        return self.events[-1].at_ms if self.events else self.ended_ms


class Tape(_Form):
    """One try of a route. ``request`` is the body that was sent, ``model`` the upstream's."""

    format: Literal[1] = FORMAT
    recorded: str
    route: str
    tier: Tier
    model: str
    stream: bool
    request: Mapping[str, Any]
    answer: Answer

    def write(self) -> str:
        """Return the text of its file."""
        return pretty(self.model_dump(mode="json", exclude_unset=True), lines=frozenset({"events"})) + "\n"


def parse(text: str, source: str) -> Tape:
    """Read the text of a file; ``source`` is named in errors.

    Raises:
        TapeError: it is not JSON, of another version, or says something impossible.
    """
    try:
        value = read(text)
    except ValueError as error:
        message = f"{source} is not JSON ({error}). Restore it, or delete it and record it again."
        raise TapeError(message) from error
    found = value.get("format") if isinstance(value, dict) else None
    if found != FORMAT or isinstance(found, bool):
        message = f"{source}: format is {found!r}, and this flatfee reads {FORMAT}. Record it again."
        raise TapeError(message)
    try:
        return Tape.model_validate(value)
    except ValidationError as error:
        raise TapeError("\n".join(f"{source}: {_problem(found)}" for found in error.errors())) from error


def _problem(found: ErrorDetails) -> str:
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in found["loc"]).lstrip(".")
    if found["type"] == "extra_forbidden":
        *parents, name = found["loc"]
        known = _names(parents)
        near = difflib.get_close_matches(str(name), known, 1)
        cure = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(known)}."
        return f"{place} is not known; {cure}"
    if found["type"] == "missing":
        return f"{place} is missing; restore it, or record the tape again."
    return f"{place}: {found['msg'].removeprefix('Value error, ')}."


def _names(place: Iterable[int | str]) -> tuple[str, ...]:
    parts: dict[str, type[BaseModel]] = {"answer": Answer, "events": Event, "failure": Broken}
    form: type[BaseModel] = Tape
    for part in place:
        form = parts.get(str(part), form)
    return tuple(form.model_fields)


def _only_one_of(form: _F, names: tuple[str, ...], *, required: bool) -> _F:
    given = [name for name in names if name in form.model_fields_set]
    if len(given) > 1 or (required and not given):
        message = f"has {' and '.join(given) or 'nothing to say'}; give one of {', '.join(names)}"
        raise ValueError(message)
    return form
