"""What response headers say of a ticket, of a receipt and of an account's standing."""

from __future__ import annotations

from flatfee.receipt import Receipt
from flatfee.server.statement import rfc3339
from flatfee.server.store.records import Settlement, Standing, Ticket
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


def settled_headers(settlement: Settlement) -> dict[str, str]:
    """Return the headers that a settlement makes final, once those of the route that answered are told."""
    if settlement.remaining is not None:
        return {Header.FAIR_USE_REMAINING: str(settlement.remaining)}
    return receipt_headers(settlement.receipt)


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
