"""The end of a request's money: what to charge, and the receipt. Once, on every way out."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Protocol

from msgspec.structs import replace

from flatfee.receipt import Receipt
from flatfee.server.ask import Ask
from flatfee.server.asked import Asked, Beside
from flatfee.server.estimating import estimate_tokens
from flatfee.server.gateway import Gateway
from flatfee.server.lasting import Lasting
from flatfee.server.meter import Meter
from flatfee.server.patience import GRACE, in_time
from flatfee.server.policy.plan import price
from flatfee.server.settings import PlanSettings, RouteSettings
from flatfee.server.statement import Statement, UsedTokens
from flatfee.server.store import ledger
from flatfee.server.store.base import ForeignTicket, StoreDown
from flatfee.server.store.records import Outcome, Settlement, Ticket
from flatfee.wire import ErrorCode, Lane, Reason, ReceiptState

log = logging.getLogger("flatfee.server")


@dataclass(slots=True, kw_only=True)
class Bill:
    """One request's ticket, until it is settled. ``deadline`` is the caller's, by the gateway's monotonic clock.

    ``code`` is of the error that the request ends in; it is kept with the receipt, and so are the request's facts.
    """

    ticket: Ticket
    ask: Ask
    plan: PlanSettings
    meter: Meter
    gateway: Gateway
    deadline: float | None = None
    code: ErrorCode | None = None
    _statement: Statement | None = field(default=None)
    _settling: Lasting[Settlement] | None = field(default=None)

    async def settle(self) -> Settlement:
        """Settle, at the first call; every call returns the same settlement.

        A caller that is cancelled meanwhile does not take the settlement with it. One whose deadline has
        passed does not wait for a slow ledger: it is told what is known, and the ledger notes it when it can.

        Raises:
            StoreDown: the ledger was lost before anything was spent.
        """
        if self._settling is None:
            beside = Beside(code=self.code, facts=Asked.of(self.ask))
            outcome = outcome_of(self.ticket, self.ask, self.plan, self.meter, beside)
            assert isinstance(outcome.receipt, Statement)  # noqa: S101 - a Receipt is what others may give a store
            self._statement = outcome.receipt
            self._settling = Lasting(self._settled(outcome, outcome.receipt))
        return await self._settling

    @property
    def foreseen(self) -> Receipt | None:
        """What the settlement will come to, from its begin on: for who cannot wait for it."""
        receipt = self._statement
        if receipt is None:
            return None
        return (_told(receipt) if self.meter.route is None else unkept(receipt)).receipt

    async def _settled(self, outcome: Outcome, receipt: Statement) -> Settlement:
        left = None if self.deadline is None else max(0.0, self.deadline - self.gateway.monotonic()) + GRACE
        try:
            return await in_time(self.gateway.store.settle(self.ticket, outcome), left, self.gateway.keep_doing)
        except (StoreDown, TimeoutError) as error:
            # A ticket that was told early, and lost, holds nothing: nobody was asked for it.
            lost = isinstance(error, ForeignTicket) and self.meter.route is None
            spent = self.meter.dispatched and not lost
            if not spent and isinstance(error, StoreDown):
                raise
            # What was bought is not thrown away. The ticket's lease runs out, and its estimate is charged then.
            why = str(error) or "slow"
            log.error("ledger.settle_failed", extra={"request_id": self.ticket.request_id, "error": why})  # noqa: TRY400
            return unkept(receipt) if spent else _told(receipt)


def unkept(receipt: Statement) -> Settlement:
    """Return the settlement of a request whose receipt could not be kept: its figures are estimates."""
    return _told(replace(receipt, state=ReceiptState.ESTIMATED))


def _told(receipt: Statement) -> Settlement:
    return Settlement(json=receipt.json())


class Question(Protocol):
    """What a settlement needs to know of a request: the model asked for, and how large its prompt was estimated."""

    @property
    def model(self) -> str:
        """The model as it was asked for."""
        ...

    @property
    def prompt_tokens(self) -> int:
        """The estimate."""
        ...


def outcome_of(
    ticket: Ticket, ask: Question, plan: PlanSettings, meter: Meter, beside: Beside | None = None
) -> Outcome:
    """Decide charge and receipt from what the meter saw."""
    usage, state = _usage(ask, meter)
    charged = 0
    if usage is not None and meter.route is not None and not meter.broken:
        charged = charge(ticket, plan, meter.route, usage)
    return Outcome(
        charged=charged,
        route=meter.route.name if meter.route else None,
        answered=meter.whole,
        receipt=statement_of(ticket, ask, meter, usage, state),
        beside=beside,
    )


def charge(ticket: Ticket, plan: PlanSettings, route: RouteSettings, usage: UsedTokens) -> int:
    """Return the units that an answer costs; 0 where nothing is charged."""
    prompt, output, cached = usage.prompt_tokens or 0, usage.completion_tokens or 0, usage.cached_tokens or 0
    return price(ticket.offer, plan, route, prompt, output, cached)


def lane_of(ticket: Ticket, meter: Meter) -> tuple[Lane, Reason]:
    """Return lane and reason: those of the ticket, unless the first choice was left."""
    because = meter.left_first_because
    return (ticket.offer.lane, ticket.offer.reason) if because is None else (Lane.FALLBACK, because)


def _usage(ask: Question, meter: Meter) -> tuple[UsedTokens | None, ReceiptState]:
    if meter.route is None:
        return None, ReceiptState.REFUSED
    if meter.whole and meter.usage is not None:
        return meter.usage, ReceiptState.SETTLED
    spared = meter.left_out.saved_tokens or 0 if meter.left_out is not None else 0
    tokens = meter.route.tokens
    prompt, output = tokens(ask.prompt_tokens - spared), tokens(estimate_tokens(meter.delivered))
    estimate = UsedTokens(prompt_tokens=prompt, completion_tokens=output)
    return meter.usage or estimate, ReceiptState.ESTIMATED


def statement_of(
    ticket: Ticket, ask: Question, meter: Meter, usage: UsedTokens | None, state: ReceiptState
) -> Statement:
    """Make the receipt, but for the figures that only the ledger knows."""
    lane, reason = lane_of(ticket, meter)
    route = meter.route
    return Statement(
        request_id=ticket.request_id,
        lane=lane,
        reason=reason,
        state=state,
        model_requested=ask.model,
        model_served=route.model if route is not None else None,
        route=route.name if route is not None else None,
        tier=route.tier if route is not None else None,
        usage=usage,
        compaction=meter.left_out,
        attempts=tuple(meter.attempts),
        created_at=ledger.moment(ticket.created_at),
    )
