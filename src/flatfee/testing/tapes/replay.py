"""Answers as the tapes have it: which tape a try is answered from, and how that is played."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from flatfee.testing.scripting.asked import Asked
from flatfee.testing.scripting.played import Failure, Held, Pause, Piece, Played
from flatfee.testing.tapes.folder import Filed, read_all
from flatfee.testing.tapes.keys import settings_with_providers
from flatfee.testing.tapes.matching import Comparison, Difference, differences, digest
from flatfee.testing.tapes.spelling import event_text, spell
from flatfee.testing.tapes.tape import Answer, Event

if TYPE_CHECKING:
    from flatfee.testing.tapes.drift import Drift
    from flatfee.testing.tapes.redaction import Redact

Routes = Literal["any", "tier", "route"]
"""What of a route must be as it was: nothing, its tier, its name. What is nearest goes first in any case."""

AT_MOST: Final = 100
"""How many requests a comparison makes, unless it is told."""

SECONDS: Final = 600.0
"""How long all of them may take together, unless it is told."""

_SHOWN: Final = 8
_LEAVING_SECONDS: Final = 1.0


@dataclass(slots=True)
class _Row:
    """The tapes of one request, in the order in which they were recorded, and how many were played."""

    wanted: Mapping[str, Any]
    tapes: list[Filed] = field(default_factory=list)
    played: Counter[str] = field(default_factory=Counter)
    names: set[str] = field(default_factory=set)

    def next(self, route: str, tier: str, routes: Routes) -> Filed | None:
        """Return the next tape of this route, else of its tier, else of any, as far as ``routes`` lets it.

        The last one is played for ever.
        """
        among = {
            f"route {route}": [filed for filed in self.tapes if filed.tape.route == route],
            f"tier {tier}": [filed for filed in self.tapes if filed.tape.tier == tier],
            "any": self.tapes,
        }
        allowed = {"route": 1, "tier": 2, "any": 3}[routes]
        for key, tapes in list(among.items())[:allowed]:
            if tapes:
                self.played[key] += 1
                chosen = tapes[min(self.played[key], len(tapes)) - 1]
                self.names.add(chosen.name)
                return chosen
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tapes:
    """Recorded exchanges, in order. Load them once; each gateway plays them from the start.

    ``speed`` divides the recorded times. ``real``: they are waited for on the machine's clock; else they go by on
    the gateway's clock, which costs nothing. ``routes`` is what of a route must be as it was.
    """

    folder: Path
    filed: tuple[Filed, ...]
    speed: float = 1.0
    real: bool = False
    comparison: Comparison = field(default_factory=Comparison)
    routes: Routes = "any"

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        speed: float = 1.0,
        real: bool = False,
        ignore: str | Iterable[str] = (),
        routes: Routes = "any",
    ) -> Tapes:
        """Read a folder of tapes.

        ``ignore`` names what may differ in requests: members such as ``seed``, and places such as
        ``messages[0].content`` or ``messages[*].name``.

        Raises:
            TapeError: one of them cannot be used; the message names file, key and cure.
            ValueError: a speed of 0 or less, or something else that ``routes`` cannot be.
        """
        if not 0 < speed < float("inf"):
            message = f"speed={speed!r}: give a number above 0; 2.0 is twice as fast."
            raise ValueError(message)
        if routes not in ("route", "tier", "any"):
            message = f"routes={routes!r}: give 'route', 'tier' or 'any'."
            raise ValueError(message)
        return cls(
            folder=Path(folder),
            filed=tuple(read_all(Path(folder))),
            speed=speed,
            real=real,
            comparison=Comparison.ignoring(ignore),
            routes=routes,
        )

    def drift(
        self,
        config: str | os.PathLike[str],
        *,
        only: str | None = None,
        update: bool = False,
        at_most: int = AT_MOST,
        seconds: float = SECONDS,
        redact: Redact | Iterable[Redact] = (),
    ) -> Drift:
        """Ask the real providers of a configuration again, and return how the form of their answers differs.

        Each request is made once, and costs what the provider takes for it. Not within a running event loop.
        ``redact`` is what the recording had: ``update`` writes without it again.

        Raises:
            SettingsError: the configuration cannot be used, or a provider's key is not in the environment.
            TapeError: no tape is called so, there would be too many requests, or a tape cannot be written.
            ValueError: ``redact`` holds what is no expression and no path.
        """
        from flatfee.testing.tapes.drift import Drift, find_drift, questions  # no replay needs what it needs

        settings = settings_with_providers(Path(config), os.environ)
        asked, others = questions(self.filed, settings, only=only, at_most=at_most)
        return Drift.of(asyncio.run(find_drift(asked, settings, seconds=seconds, update=update, redact=redact)), others)

    def __len__(self) -> int:
        return len(self.filed)

    def __repr__(self) -> str:
        return f"<Tapes {self.folder}: {len(self.filed)}>"


class Player:
    """Plays tapes for one gateway. Used from the test's threads and the gateway's: it has a lock."""

    def __init__(self, tapes: Tapes) -> None:
        self.tapes = tapes
        self._lock = threading.Lock()
        self._rows: dict[str, _Row] = {}
        self.rewind()

    def rewind(self) -> None:
        """Play from the start again."""
        rows: dict[str, _Row] = {}
        for filed in self.tapes.filed:
            wanted = self.tapes.comparison.wanted(filed.tape.request)
            rows.setdefault(digest(wanted), _Row(wanted)).tapes.append(filed)
        with self._lock:
            self._rows = rows

    @property
    def unplayed(self) -> list[str]:
        """The names of the tapes that nothing was answered from."""
        with self._lock:
            return sorted(
                filed.name for row in self._rows.values() for filed in row.tapes if filed.name not in row.names
            )

    def choose(self, asked: Asked) -> tuple[str, Played] | str:
        """Return the tape that answers a try, by its file's name, or what came nearest, and where it differs."""
        routes = self.tapes.routes
        wanted = self.tapes.comparison.wanted(_body(asked))
        with self._lock:
            exact = self._rows.get(digest(wanted))
            compared = [
                (tuple(differences(row.wanted, wanted)), row) for row in ([exact] if exact else self._rows.values())
            ]
            for found, row in compared:
                filed = None if found else row.next(asked.route, asked.tier, routes)
                if filed is not None:
                    return filed.name, play(filed.tape.answer, self.tapes.speed)
        found, row = min(compared, key=lambda pair: len(pair[0]))
        nearest = row.tapes[0]
        return _missed(asked, nearest.name, found or (_elsewhere(nearest, asked, routes),))


def _missed(asked: Asked, nearest: str, found: Sequence[Difference]) -> str:
    lines = [f"  - {difference}" for difference in found[:_SHOWN]]
    lines += [f"  and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    head = f"No tape answers completion {asked.number}, attempt {asked.attempt} (route {asked.route!r}, {asked.tier})."
    cure = "Record it too, or load the tapes with ignore= naming what may differ."
    return "\n".join([head, f"The nearest is {nearest}:", *lines, cure])


def _elsewhere(nearest: Filed, asked: Asked, routes: Routes) -> Difference:
    """Return that a request was recorded from other routes only."""
    was, now = (nearest.tape.route, asked.route) if routes == "route" else (nearest.tape.tier, asked.tier)
    return Difference(path=routes, recorded=repr(str(was)), asked=repr(str(now)))


def play(answer: Answer, speed: float = 1.0) -> Played:
    """Return what a provider did, at its times divided by ``speed``."""
    if answer.status is None:
        return Played(before=tuple(_end(answer, 0.0, speed)))
    head = answer.head_ms or 0.0
    pieces: list[Piece] = []
    at = head
    for moment, data in _pieces(answer):
        pieces += [*_pause(moment - at, speed), data]
        at = max(at, moment)
    pieces += _end(answer, at, speed)
    return Played(status=answer.status, headers=answer.headers, before=tuple(_pause(head, speed)), pieces=tuple(pieces))


def _pieces(answer: Answer) -> Iterable[tuple[float, bytes]]:
    """Yield moments and bytes; events of one moment come in one piece."""
    for moment, events in itertools.groupby(answer.events or (), key=lambda event: event.at_ms):
        yield moment, b"".join(_bytes_of(event, answer) for event in events)
    if "body" in answer.model_fields_set:
        yield answer.ended_ms, spell(answer.body, answer.style).encode()
    if answer.text is not None:
        yield answer.ended_ms, answer.text.encode()
    if answer.bytes is not None:
        yield answer.ended_ms, answer.bytes.encode("latin-1")


def _bytes_of(event: Event, answer: Answer) -> bytes:
    if event.text is not None:
        return event.text.encode()
    if event.bytes is not None:
        return event.bytes.encode("latin-1")
    return event_text(event.data, answer.style, answer.line_end).encode()


class _Leaving:
    """A gate that stands for a moment of real time: who left here while it was recorded can leave here again."""

    async def passed(self) -> None:
        """Wait in another thread, so that the gateway's time does not skip over it."""
        gone = threading.Event()
        try:
            await asyncio.to_thread(gone.wait, _LEAVING_SECONDS)
        finally:
            gone.set()  # else the thread would wait on, and the end of the gateway for it


def _end(answer: Answer, at: float, speed: float) -> list[Pause | Failure | Held]:
    """Return how it ended: well, broken, or, where nobody heard its end, not at all."""
    if answer.failure is not None:
        broken = answer.failure
        return [*_pause(broken.at_ms - at, speed), Failure(broken.outcome, broken.message)]
    return [*_pause(answer.ended_ms - at, speed), Held(_Leaving()), Pause()] if answer.partial else []


def _pause(milliseconds: float, speed: float) -> list[Pause]:
    return [Pause(milliseconds / 1000 / speed)] if milliseconds > 0 else []


def _body(asked: Asked) -> dict[str, Any]:
    """Return what the provider is asked."""
    read = msgspec.json.decode(asked.upstream)
    return read if isinstance(read, dict) else {}
