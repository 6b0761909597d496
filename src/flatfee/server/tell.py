"""What response headers say of a ticket, of a receipt and of an account's standing."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

from flatfee.receipt import Receipt
from flatfee.server.store.records import Standing, Ticket
from flatfee.wire import Header


def ticket_headers(ticket: Ticket) -> dict[str, str]:
    """Return the headers that are known once a request was admitted."""
    return {Header.LANE: ticket.offer.lane, Header.REASON: ticket.offer.reason, **standing_headers(ticket.standing)}


def standing_headers(standing: Standing) -> dict[str, str]:
    """Return the fair-use and workflow headers."""
    return {
        Header.FAIR_USE_REMAINING: str(standing.remaining),
        Header.FAIR_USE_LIMIT: str(standing.limit),
        Header.FAIR_USE_RESET: rfc3339(standing.resets_at),
        Header.WORKFLOWS_ACTIVE: str(standing.workflows_active),
        Header.WORKFLOWS_LIMIT: str(standing.workflows_limit),
    }


def receipt_headers(receipt: Receipt) -> dict[str, str]:
    """Return the headers that a settled receipt makes final."""
    told: dict[str, str] = {}
    if receipt.attempts is not None:
        told[Header.ATTEMPTS] = str(len(receipt.attempts))
    if receipt.lane is not None and receipt.reason is not None:
        told |= {Header.LANE: receipt.lane, Header.REASON: receipt.reason}
    if receipt.fair_use_remaining is not None:
        told[Header.FAIR_USE_REMAINING] = str(receipt.fair_use_remaining)
    return told


def rfc3339(seconds: float) -> str:
    """Return a moment as RFC 3339 in UTC, to the second."""
    return _spelled(int(seconds))


@lru_cache(maxsize=1024)  # windows end at few moments
def _spelled(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
