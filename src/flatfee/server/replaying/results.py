"""What one request came to, in the past or in a replay: the same few figures of both. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from flatfee.receipt import Receipt
from flatfee.server.replaying.past import Past
from flatfee.server.store.records import Purse
from flatfee.wire import ErrorCode, Lane, Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One request's result. ``at`` is when it arrived, in seconds since the epoch; units are the plan's.

    ``continuation`` is ``None`` where it is not known: receipts tell what is charged to fair-use only.
    ``code`` is of the error that it ended in.
    """

    at: float
    account: str
    project: str | None
    workflow: str | None
    lane: str | None
    reason: str | None
    route: str | None
    code: str | None
    premium: int
    continuation: int | None

    @classmethod
    def of_past(cls, past: Past) -> Result:
        """Return what the receipt says it came to."""
        line = past.line
        return cls(
            at=past.arrived,
            account=line.account,
            project=line.project,
            workflow=past.workflow,
            lane=line.lane,
            reason=line.reason,
            route=line.route,
            code=line.code,
            premium=line.fair_use.charged or 0,
            continuation=None,
        )

    @classmethod
    def of_receipt(cls, past: Past, receipt: Receipt, code: ErrorCode | None, purse: Purse, charged: int) -> Result:
        """Return what a replay says it would come to."""
        return cls(
            at=past.arrived,
            account=past.line.account,
            project=past.line.project,
            workflow=past.workflow,
            lane=receipt.lane,
            reason=receipt.reason,
            route=receipt.route,
            code=code,
            premium=charged if purse is Purse.FAIR_USE else 0,
            continuation=charged if purse is Purse.CONTINUATION else 0,
        )

    @property
    def ran_out(self) -> bool:
        """Whether fair-use did not cover it: it was refused for that, or ran on continuation."""
        return self.code == ErrorCode.FAIR_USE_EXHAUSTED or self.reason == Reason.FAIR_USE_EXHAUSTED

    @property
    def served(self) -> bool:
        """Whether a route answered."""
        return self.route is not None or (self.lane is not None and self.code is None)

    @property
    def fell_back(self) -> bool:
        """Whether another route than the first choice answered."""
        return self.lane == Lane.FALLBACK
