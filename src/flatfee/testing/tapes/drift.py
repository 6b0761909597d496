"""Whether providers still answer in the form that the tapes have: asks them again, and compares.

One request at a time. How forms are compared is ``shapes``'s.
"""

from __future__ import annotations

import asyncio
import dataclasses
import fnmatch
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from flatfee.server.providers.base import Provider, ProviderFailure
from flatfee.server.providers.registry import make_providers
from flatfee.server.settings import RouteSettings, Settings
from flatfee.testing.tapes.folder import Filed, rewrite
from flatfee.testing.tapes.matching import canonical
from flatfee.testing.tapes.recording import RecordingProvider
from flatfee.testing.tapes.redaction import Redact, Redaction, secrets_of
from flatfee.testing.tapes.shapes import Finding, Severity, compare
from flatfee.testing.tapes.take import Developer, Take
from flatfee.testing.tapes.tape import Tape, TapeError

_UNTELLING: Final = frozenset({401, 402, 403, 408, 429})


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A tape beside what is live. ``because`` tells why it could not be compared (``unclear``), or was not."""

    name: str
    route: str
    findings: tuple[Finding, ...] = ()
    unclear: bool = False
    because: str | None = None

    @property
    def drifted(self) -> bool:
        """Whether the tape does not tell any more how the provider answers."""
        return any(finding.severity is not Severity.NEW for finding in self.findings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """The comparison of all tapes."""

    compared: tuple[Compared, ...]

    @classmethod
    def of(cls, compared: Iterable[Compared], others: Iterable[Compared]) -> Drift:
        """Return it in the order of the tapes' names. ``others`` were not asked for."""
        return cls(compared=tuple(sorted([*compared, *others], key=lambda entry: entry.name)))

    @property
    def drifted(self) -> bool:
        """Whether there is drift. What is new, and breaks nothing, is none."""
        return any(entry.drifted for entry in self.compared)

    @property
    def exit_code(self) -> int:
        """0: no drift. 1: drift. 2: it cannot be told, because a provider gave no answer that could be compared."""
        if self.drifted:
            return 1
        told = [entry for entry in self.compared if entry.because is None]
        return 2 if not told or any(entry.unclear for entry in self.compared) else 0

    def text(self) -> str:
        """Return the report for people."""
        return "\n".join([*(line for entry in self.compared for line in _lines(entry)), self._sum()])

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON has it: ``drifted``, ``exit_code``, ``compared``."""
        compared = [dataclasses.asdict(entry) | {"drifted": entry.drifted} for entry in self.compared]
        return {"drifted": self.drifted, "exit_code": self.exit_code, "compared": compared}

    def _sum(self) -> str:
        asked = [entry for entry in self.compared if entry.because is None or entry.unclear]
        drifted = sum(entry.drifted for entry in self.compared)
        unclear = sum(entry.unclear for entry in self.compared)
        return f"{len(asked)} asked, {drifted} drifted, {unclear} unclear, {len(self.compared) - len(asked)} not asked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked again: a tape's request, by a route of today."""

    filed: Filed
    route: RouteSettings

    @property
    def body(self) -> bytes:
        """The body that is sent."""
        return msgspec.json.encode({**self.filed.tape.request, "model": self.route.model})


def questions(
    filed: Iterable[Filed], settings: Settings, *, only: str | None = None, at_most: int
) -> tuple[list[Question], list[Compared]]:
    """Return what would be asked, and what not, with why. ``only`` is a file's name, with ``*`` for any part of it.

    Raises:
        TapeError: no tape has such a name, or there would be more than ``at_most`` requests.
    """
    chosen = [each for each in filed if only is None or fnmatch.fnmatch(each.name, only) or each.path.stem == only]
    if not chosen:
        message = f"No tape is called {only!r}; give the name of a file, such as '0001-*'."
        raise TapeError(message)
    asked: list[Question] = []
    others: list[Compared] = []
    for each in chosen:
        because = _why_not(each.tape) or _twin(each, asked)
        if because is None:
            asked.append(Question(filed=each, route=_route(each.tape, settings)))
        else:
            others.append(Compared(name=each.name, route=each.tape.route, because=because))
    if len(asked) > at_most:
        message = f"That would be {len(asked)} requests, and {at_most} are allowed; choose some by name, or allow more."
        raise TapeError(message)
    return asked, others


async def find_drift(
    asked: Sequence[Question],
    settings: Settings,
    *,
    providers: Mapping[str, Provider] | None = None,
    seconds: float,
    update: bool = False,
    redact: Redact | Iterable[Redact] = (),
) -> list[Compared]:
    """Ask again, one after the other, and compare. With ``update`` tapes are written anew from answers that differ.

    ``seconds`` is for all of them together; what is left then is unclear.

    Raises:
        TapeError: a tape cannot be written.
    """
    developer = Developer(redaction=Redaction.of(redact, secrets_of(settings)))
    made = providers if providers is not None else make_providers(settings.providers)
    end = time.monotonic() + seconds
    found: list[Compared] = []
    try:
        for question in asked:
            live = await _ask(made[question.route.provider], question, developer, end - time.monotonic())
            compared = _compared(question, live)
            if update and compared.because is None and compared.findings:
                rewrite(question.filed.path, live)
            found.append(compared)
    finally:
        for provider in made.values():
            await provider.close()
    return found


async def _ask(provider: Provider, question: Question, developer: Developer, seconds: float) -> Tape:
    """Ask a provider, and return the tape of it."""
    takes: list[Take] = []
    recording = RecordingProvider(provider, time.monotonic, takes.append)
    route = question.route
    with suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, min(seconds, route.total_timeout))):
            while not takes or takes[-1].tells_nothing:
                with suppress(ProviderFailure):
                    async with recording.send(route, question.body, stream=question.filed.tape.stream) as answer:
                        async for _ in answer.chunks():
                            pass
    return developer.tape(takes[-1], datetime.now(UTC).strftime("%Y-%m-%d"))


def _compared(question: Question, live: Tape) -> Compared:
    recorded, answer = question.filed.tape.answer, live.answer
    unclear = _why_unclear(recorded.status, live)
    findings = () if unclear else tuple(compare(recorded, answer))
    return Compared(
        name=question.filed.name,
        route=question.route.name,
        findings=findings,
        unclear=unclear is not None,
        because=unclear,
    )


def _why_unclear(recorded: int | None, live: Tape) -> str | None:
    answer = live.answer
    if answer.failure is not None:
        return f"the provider {answer.failure.message}"
    if answer.partial:
        return "the answer was not whole in time"
    if answer.status != recorded and (answer.status in _UNTELLING or (answer.status or 500) >= 500):
        return f"the provider answered with status {answer.status}"
    return None


def _why_not(tape: Tape) -> str | None:
    answer = tape.answer
    if answer.failure is not None or answer.partial:
        return "it was recorded without a whole answer"
    if answer.status in _UNTELLING or (answer.status or 0) >= 500:
        return f"it was recorded with status {answer.status}, which cannot be asked for"
    return None


def _twin(filed: Filed, asked: Iterable[Question]) -> str | None:
    """Return why a request need not be asked again: another tape has the same one."""
    wanted = canonical(filed.tape.request)
    for question in asked:
        other = question.filed.tape
        if other.route == filed.tape.route and canonical(other.request) == wanted:
            return f"it is the same request as {question.filed.name}"
    return None


def _route(tape: Tape, settings: Settings) -> RouteSettings:
    """Return the route of today that is nearest to the recorded one: of its name, else of its tier, else the first."""
    by_name = (route for route in settings.routes if route.name == tape.route)
    by_tier = (route for route in settings.routes if route.tier == tape.tier)
    return next(by_name, None) or next(by_tier, None) or settings.routes[0]


def _lines(entry: Compared) -> Iterator[str]:
    if entry.because is not None:
        yield f"{'unclear' if entry.unclear else 'not asked':<10}{entry.name}: {entry.because}"
        return
    yield f"{'drifted' if entry.drifted else 'same':<10}{entry.name} (route {entry.route})"
    for finding in entry.findings:
        told = f"{finding.path}: recorded {finding.recorded}, live {finding.live}"
        yield f"  {finding.severity:<10}{finding.change:<15}{told}"
