"""What one request came to, in the past or in a replay: the same few figures of both. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from flatfee.receipt import FairUse, Receipt
from flatfee.server.replaying.past import FairUseLine, Past
from flatfee.server.store.records import Purse
from flatfee.wire import ErrorCode, Reason

REFUSED = "refused"
"""Stands for the lane of a request that had none."""

_UNTOLD = FairUse()


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One request's result. ``at`` is when it arrived, in seconds since the epoch; units are the plan's.

    ``continuation`` is ``None`` where it is not known: receipts tell what is charged to fair-use only.
    ``code`` is of the error that it ended in. ``fair_use`` tells unit, limit and end of the window.
    """

    at: float
    account: str
    project: str | None
    workflow: str | None
    lane: str
    reason: str | None
    route: str | None
    code: str | None
    premium: int
    continuation: int | None
    fair_use: FairUse | FairUseLine

    @classmethod
    def of_past(cls, past: Past, continuation: int | None = None) -> Result:
        """Return what the receipt says it came to."""
        line = past.line
        return cls(
            at=past.arrived,
            account=line.account,
            project=line.project,
            workflow=past.workflow,
            lane=line.lane or REFUSED,
            reason=line.reason,
            route=line.route,
            code=line.code,
            premium=line.fair_use.charged or 0,
            continuation=continuation,
            fair_use=line.fair_use,
        )

    @classmethod
    def of_receipt(cls, past: Past, receipt: Receipt, code: ErrorCode | None, purse: Purse, charged: int) -> Result:
        """Return what a replay says it would come to."""
        return cls(
            at=past.arrived,
            account=past.line.account,
            project=past.line.project,
            workflow=past.workflow,
            lane=receipt.lane or REFUSED,
            reason=receipt.reason,
            route=receipt.route,
            code=code,
            premium=charged if purse is Purse.FAIR_USE else 0,
            continuation=charged if purse is Purse.CONTINUATION else 0,
            fair_use=receipt.fair_use or _UNTOLD,
        )

    @property
    def ran_out(self) -> bool:
        """Whether fair-use did not cover it: it was refused for that, or ran on continuation."""
        return self.code == ErrorCode.FAIR_USE_EXHAUSTED or self.reason == Reason.FAIR_USE_EXHAUSTED
