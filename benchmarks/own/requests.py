"""Requests as the ledger sees them, where no gateway makes them: reservations, and what they come to."""

from __future__ import annotations

from typing import Final

from flatfee.receipt import Attempt, Receipt, TokenUsage
from flatfee.server.asked import Asked, Beside
from flatfee.server.ids import request_id
from flatfee.server.store import ledger
from flatfee.server.store.records import Caller, Offer, Outcome, Purse, Reservation, Terms, Ticket
from flatfee.server.windows import Calendar
from flatfee.wire import Lane, Reason, ReceiptState, Tier

OFFER: Final = Offer(lane=Lane.PREMIUM, reason=Reason.DEFAULT, purse=Purse.FAIR_USE, units=4_696)
TERMS: Final = Terms(
    unit="token",
    fair_use=10**12,
    continuation_limit=None,
    workflows=1000,
    fanout=16,
    idle=120.0,
    requests_per_minute=None,
)


def reservation(caller: Caller, now: float, workflow: str | None) -> Reservation:
    """Return what one request wants of the ledger."""
    return Reservation(
        request_id=request_id(now),
        caller=caller,
        terms=TERMS,
        calendar=Calendar("month", 1),
        workflow=workflow,
        offers=(OFFER,),
        model_requested="auto",
        lease=60.0,
    )


def outcome_of(ticket: Ticket, *, prompt_tokens: int, stream: bool) -> Outcome:
    """Return how one request ended: with an answer of 158 tokens."""
    attempt = Attempt(route="fixed-premium", outcome="ok", status=200, duration_ms=812)
    if stream:
        attempt = attempt.model_copy(update={"first_token_ms": 240})
    receipt = Receipt(
        request_id=ticket.request_id,
        lane=ticket.offer.lane,
        reason=ticket.offer.reason,
        state=ReceiptState.SETTLED,
        model_requested="auto",
        model_served="fixed",
        route="fixed-premium",
        tier=Tier.PREMIUM,
        usage=TokenUsage(prompt_tokens=prompt_tokens, completion_tokens=158, cached_tokens=0),
        attempts=(attempt,),
        created_at=ledger.moment(ticket.created_at),
    )
    facts = Asked(prompt_tokens=prompt_tokens, stream=stream)
    return Outcome(
        charged=prompt_tokens + 4 * 158,
        receipt=receipt,
        route="fixed-premium",
        answered=True,
        beside=Beside(facts=facts),
    )
