"""The verdict on a client: which rules its requests broke. The rules are in ``checks``; nothing runs here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from flatfee.testing.judging.checks import answers, promises, retries, slots
from flatfee.testing.judging.checks.base import Found, Limits, Seen, Violation
from flatfee.testing.judging.entry import Ending
from flatfee.testing.judging.journal import Journal
from flatfee.testing.options import nearest

Check = Callable[[Seen, Limits], Found]

CHECKS: Final[Mapping[str, Check]] = MappingProxyType(
    {
        "final_error": retries.final_error,
        "retry_after": retries.retry_after,
        "backoff": retries.backoff,
        "tries": retries.tries,
        "burst": retries.burst,
        "parallel": retries.parallel,
        "gave_up": retries.gave_up,
        "open_stream": answers.open_stream,
        "truncation": answers.truncation,
        "deadline": promises.deadline,
        "idempotency": promises.idempotency,
        "slots": slots.slots,
        "same_workflow": slots.same_workflow,
    }
)
"""Name of a rule → what finds its violations. The docs list them in this order."""

_MOST_TOLD: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a client did wrong, as far as a gateway can see, and the journal that tells."""

    violations: tuple[Violation, ...]
    journal: Journal

    @property
    def resilient(self) -> bool:
        """Whether no rule was broken."""
        return not self.violations

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules that were broken, each once."""
        return tuple(dict.fromkeys(violation.rule for violation in self.violations))

    def text(self) -> str:
        """Return each violation in a line of its own, and the table of the journal."""
        if self.resilient:
            return f"The client is resilient, as far as {len(self.journal):,} requests tell.\n\n{self.journal.text()}"
        told = [f"- {violation}" for violation in self.violations[:_MOST_TOLD]]
        more = len(self.violations) - len(told)
        told += [f"- and {more:,} more"] * bool(more)
        return "\n".join(["The client is not resilient:", *told, "", self.journal.text()])

    def to_json(self) -> dict[str, Any]:
        """Return the verdict ready to be written as JSON; the journal has a form of its own."""
        return {"resilient": self.resilient, "violations": [violation.to_json() for violation in self.violations]}

    def insist(self) -> None:
        """Accept a resilient client only.

        Raises:
            AssertionError: a rule was broken. The message is ``text``.
        """
        if not self.resilient:
            raise AssertionError(self.text())


def judge(journal: Journal, limits: Limits, *, active: Collection[str] | None = None) -> Verdict:
    """Judge the requests of a journal. ``active`` are the workflows that hold a slot, if that is known.

    Raises:
        ValueError: ``limits.skip`` names a rule that does not exist.
    """
    unknown = [name for name in limits.skip if name not in CHECKS]
    if unknown:
        raise ValueError(f"There is no rule {unknown[0]!r} to skip; {nearest(unknown[0], list(CHECKS))}.")
    seen = Seen(entries=journal, active=active)
    found = (
        Violation(rule=rule, message=message, requests=tuple(requests))
        for rule, check in CHECKS.items()
        if rule not in limits.skip
        for message, requests in check(seen, limits)
    )
    return Verdict(violations=tuple(found), journal=journal)


def settled(journal: Journal, limits: Limits) -> Journal:
    """Return the journal once no stream is open, or as it is after ``limits.settle`` real seconds.

    A client that has just closed a stream has done so before the gateway hears of it.
    """
    try:
        return journal.wait_until(_is_settled, timeout=limits.settle)
    except TimeoutError:
        return journal.now()


def _is_settled(journal: Journal) -> bool:
    return not any(entry.stream and entry.ending == Ending.OPEN for entry in journal)
