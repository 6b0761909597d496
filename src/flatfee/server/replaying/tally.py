"""Sums over the results of many requests: one side of a comparison. Pure; its size grows with accounts and time."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Final

from flatfee.server.replaying.results import Result
from flatfee.wire import ErrorCode, Lane

MINUTE: Final = 60
HOUR: Final = 3600

Steps = defaultdict[int, Counter[str]]
"""Sums by the second since the epoch at which a step of time begins."""


@dataclass(slots=True)
class AccountSums:
    """What one account came to. ``ran_out_at`` is when fair-use first did not cover a request.

    ``spent`` is what was charged before the window that ``resets_at`` ends, and ``allowed`` that and its allowance.
    """

    requests: int = 0
    premium: int = 0
    refused: int = 0
    ran_out_at: float | None = None
    resets_at: float | None = None
    spent: int = 0
    allowed: int = 0


@dataclass(slots=True)
class Tally:
    """One side's sums. Units are by the name of the unit, and what is drawn over time is by ``step``, in seconds.

    ``allowed`` is how much more may be charged, in the step when a window began or the traffic did: its allowance, less
    what was left of the one before, which is gone.
    """

    requests: int = 0
    lanes: Counter[str] = field(default_factory=Counter)
    routes: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    premium: Counter[str] = field(default_factory=Counter)
    fallback: Counter[str] = field(default_factory=Counter)
    continuation: Counter[str] | None = field(default_factory=Counter)
    workflows: set[tuple[str, str | None, str]] = field(default_factory=set)
    accounts: defaultdict[str, AccountSums] = field(default_factory=lambda: defaultdict(AccountSums))
    step: int = MINUTE
    lanes_of: Steps = field(default_factory=lambda: defaultdict(Counter))
    premium_of: Steps = field(default_factory=lambda: defaultdict(Counter))
    allowed: Steps = field(default_factory=lambda: defaultdict(Counter))
    first: float | None = None

    def add(self, result: Result) -> None:
        """Count one result."""
        begins, unit = self._begin(result.at), result.fair_use.unit or "token"
        if self.first is None:
            self.first = result.at
        self.requests += 1
        self.lanes[result.lane] += 1
        self.lanes_of[begins][result.lane] += 1
        if result.route is not None:
            self.routes[result.route] += 1
        if result.code is not None:
            self.codes[result.code] += 1
        self._charge(result, unit, begins)
        self._account(result, unit)

    def by_hours(self) -> None:
        """Take hours for steps from now on, also for what was counted: minutes are too many where traffic is long."""
        if self.step < HOUR:
            self.step = HOUR
            self.lanes_of, self.premium_of = self._summed(self.lanes_of), self._summed(self.premium_of)
            self.allowed = self._summed(self.allowed)

    def _summed(self, finer: Steps) -> Steps:
        sums: Steps = defaultdict(Counter)
        for begins, counts in finer.items():
            sums[self._begin(begins)].update(counts)
        return sums

    def _begin(self, at: float) -> int:
        return int(at // self.step) * self.step

    def _charge(self, result: Result, unit: str, begins: int) -> None:
        if result.premium:
            self.premium[unit] += result.premium
            self.premium_of[begins][unit] += result.premium
            if result.lane == Lane.FALLBACK:
                self.fallback[unit] += result.premium
        if result.continuation is None:
            self.continuation = None
        elif self.continuation is not None:
            self.continuation[unit] += result.continuation

    def _account(self, result: Result, unit: str) -> None:
        account = self.accounts[result.account]
        account.requests += 1
        account.premium += result.premium
        account.refused += result.code is not None
        if result.ran_out and account.ran_out_at is None:
            account.ran_out_at = result.at
        if result.code == ErrorCode.WORKFLOW_LIMIT and result.workflow is not None:
            self.workflows.add((result.account, result.project, result.workflow))
        use = result.fair_use
        if use.limit is None or use.resets_at is None:
            return
        ends, at = use.resets_at.timestamp(), result.at
        if account.resets_at is None or ends > account.resets_at:
            at = (self.first or at) if account.resets_at is None else min(account.resets_at, at)
            account.resets_at, account.spent = ends, account.premium - result.premium
        allowed = account.spent + use.limit
        if ends == account.resets_at and allowed != account.allowed:
            self.allowed[self._begin(at)][unit] += allowed - account.allowed
            account.allowed = allowed

    def ran_out(self) -> list[tuple[str, float]]:
        """Return the accounts that ran out of fair-use, and when, the first to do so first."""
        found = [(name, sums.ran_out_at) for name, sums in self.accounts.items() if sums.ran_out_at is not None]
        return sorted(found, key=lambda each: (each[1], each[0]))
