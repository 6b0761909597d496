"""What must come of each fault, for the caller and for the provider. The rows themselves are in ``rows``.

*Alone* the failing route is the only one. *Beside* it there is another: one that answers with the
same text, one that would put it otherwise, or one that can go on from a text that was begun.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from tests.faults.speech import TEXT

PAUSE: Final = 0.25
"""Seconds before the same route may be tried again, unless the provider asks for more."""


class Verdict(StrEnum):
    """How a request ended."""

    PASS = "pass"
    """The first route's whole answer, as it came."""
    RESCUED = "rescued"
    """A whole answer after something had to be mended."""
    CLEAN_ERROR = "clean error"
    """A named error that tells what was tried; nothing looks whole that is not."""
    FAIL = "fail"


class Company(StrEnum):
    """Which routes there are beside the failing one."""

    ALONE = "alone"
    HEALTHY = "beside a healthy route"
    OTHERWISE = "beside one that answers otherwise"
    PREFILL = "beside one that continues a text"

    @property
    def has_other(self) -> bool:
        """Whether there is another route at all."""
        return self is not Company.ALONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What must come of one run.

    ``attempts`` are those on the failing route, each an outcome and where it matters a status, as
    in ``error 503``; ``others`` those on the other route. ``codes`` are the errors that may be told,
    ``status`` the one that goes with it before a byte has come.
    """

    verdict: Verdict
    attempts: Sequence[str]
    others: Sequence[str] = ()
    codes: frozenset[str | None] = frozenset()
    status: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The failing route's limits in seconds. ``plain`` is its total limit when asked for a plain answer."""

    connect: float = 5.0
    first: float = 5.0
    idle: float = 5.0
    total: float = 30.0
    plain: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One fault. ``name`` is its entry of the catalogue, ``says`` one line in plain English.

    ``times`` is how often the provider fails before it is well; ``None``: it never is. ``provider``
    is the place where it listens, or does not. ``asked`` is how many tries must have arrived there,
    where that is not one for each attempt. ``gap`` is the least time between two of them in seconds.
    ``before`` requests are made first, with an answer that does not matter. ``mends`` says what the
    gateway has to mend in an answer of the first route; ``texts`` is what each choice must say.
    """

    name: str
    says: str
    expects: Mapping[Company, Expected]
    shapes: Sequence[str] = ("stream", "plain")
    limits: Limits = Limits()
    provider: str = "url"
    times: int | None = None
    gap: float = PAUSE
    before: int = 0
    mends: str = ""
    texts: Sequence[str] = (TEXT,)
    body: Mapping[str, Any] = field(default_factory=dict)
    tools: bool = False
    charged_when_cut: bool = False
    estimated: bool = False

    @property
    def key(self) -> str:
        """What tells this row from every other."""
        return f"{self.name}{'-once' if self.times else ''}{'' if len(self.shapes) > 1 else '-' + self.shapes[0]}"


UNAVAILABLE: Final = frozenset[str | None]({"provider_unavailable"})
NO_MORE: Final = frozenset[str | None]({"provider_unavailable", "fallback_exhausted"})
MIDWAY: Final = ("stream",)


def passes(name: str, says: str, **options: Any) -> Row:
    """The first route's answer is used: as it is, or mended."""
    verdict = Verdict.RESCUED if options.get("mends") else Verdict.PASS
    expected = Expected(verdict=verdict, attempts=("ok 200",))
    return Row(name=name, says=says, expects={Company.ALONE: expected, Company.HEALTHY: expected}, **options)


def left(name: str, says: str, *attempts: str, **options: Any) -> Row:
    """The route is left before the caller has heard a thing."""
    return Row(
        name=name,
        says=says,
        expects={
            Company.ALONE: Expected(verdict=Verdict.CLEAN_ERROR, attempts=attempts, codes=UNAVAILABLE, status=503),
            Company.HEALTHY: Expected(verdict=Verdict.RESCUED, attempts=attempts, others=("ok 200",)),
        },
        **options,
    )


def recovers(name: str, says: str, *attempts: str, **options: Any) -> Row:
    """The same route answers when it is asked again."""
    expected = Expected(verdict=Verdict.RESCUED, attempts=(*attempts, "ok 200"))
    return Row(
        name=name,
        says=says,
        expects={Company.ALONE: expected, Company.HEALTHY: expected},
        times=len(attempts),
        **options,
    )


def refuses(name: str, says: str, outcome: str, *codes: str | None, **options: Any) -> Row:
    """The provider's refusal goes to the caller as it is, and nobody else is asked."""
    status = int(outcome.split()[1])
    expected = Expected(verdict=Verdict.CLEAN_ERROR, attempts=(outcome,), codes=frozenset(codes), status=status)
    return Row(name=name, says=says, expects={Company.ALONE: expected, Company.HEALTHY: expected}, **options)


def overflows(name: str, says: str, *codes: str | None, status: int = 400, **options: Any) -> Row:
    """The context is too large for this route: another may hold it, and if there is none the refusal is told."""
    attempts = (f"context_overflow {status}",)
    return Row(
        name=name,
        says=says,
        expects={
            Company.ALONE: Expected(
                verdict=Verdict.CLEAN_ERROR, attempts=attempts, codes=frozenset(codes), status=status
            ),
            Company.HEALTHY: Expected(verdict=Verdict.RESCUED, attempts=attempts, others=("ok 200",)),
        },
        **options,
    )


def breaks(name: str, says: str, attempt: str = "error 200", **options: Any) -> Row:
    """A text breaks off: another route goes on, if it says the same; else the caller is told."""
    told = Expected(verdict=Verdict.CLEAN_ERROR, attempts=(attempt,), codes=UNAVAILABLE)
    rescued = Expected(verdict=Verdict.RESCUED, attempts=(attempt,), others=("ok 200",))
    return Row(
        name=name,
        says=says,
        expects={
            Company.ALONE: told,
            Company.HEALTHY: rescued,
            Company.OTHERWISE: replace(told, others=("diverged 200",), codes=NO_MORE),
            Company.PREFILL: rescued,
        },
        shapes=MIDWAY,
        **options,
    )


def breaks_for_good(name: str, says: str, **options: Any) -> Row:
    """What was delivered cannot be continued by anybody."""
    told = Expected(verdict=Verdict.CLEAN_ERROR, attempts=("error 200",), codes=NO_MORE)
    return Row(name=name, says=says, expects={Company.ALONE: told, Company.HEALTHY: told}, shapes=MIDWAY, **options)
