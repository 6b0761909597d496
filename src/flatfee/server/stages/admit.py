"""Admission: one atomic write that takes a workflow slot and holds back units, or a clear refusal."""

from __future__ import annotations

from flatfee.receipt import Receipt
from flatfee.server.faults import Fault
from flatfee.server.statement import rfc3339
from flatfee.server.store.base import Ledger
from flatfee.server.store.ledger import fair_use, workflow_state
from flatfee.server.store.records import Changed, Purse, Refusal, Repeat, Reservation, Standing, Ticket
from flatfee.server.tell import standing_headers
from flatfee.wire import ErrorCode, ReceiptState


class Refused(Fault):
    """An admission that the ledger refused; it tells how the account stands."""

    def __init__(self, refusal: Refusal, want: Reservation, message: str) -> None:
        super().__init__(refusal.code, message, retry_after=refusal.retry_after)
        self.told = standing_headers(refusal.standing)
        self.receipt = refusal_of(want).model_copy(
            update={
                "fair_use": fair_use(refusal.standing, charged=0),
                "workflow": workflow_state(want.workflow, refusal.standing),
            }
        )


def refusal_of(want: Reservation) -> Receipt:
    """Return the receipt of a reservation that comes to nothing."""
    return Receipt(request_id=want.request_id, state=ReceiptState.REFUSED, model_requested=want.model_requested)


async def admit(want: Reservation, store: Ledger) -> Ticket | Repeat | Changed:
    """Reserve the best lane that fits; or tell that the key was used before, or that the caller changed.

    Raises:
        Refused: ``rate_limited``, ``workflow_limit``, ``fair_use_exhausted``, ``idempotency_mismatch``
            or ``idempotency_in_flight``.
        StoreDown: the ledger cannot be written; nothing is served unmetered.
    """
    answer = await store.reserve(want)
    if isinstance(answer, Refusal):
        raise refuse(answer, want)
    return answer


def refuse(refusal: Refusal, want: Reservation) -> Refused:
    """Say in words why a reservation was not granted."""
    if refusal.code is ErrorCode.RATE_LIMITED:
        message = (
            f"This key may send {want.terms.requests_per_minute} requests per minute. "
            f"Wait {refusal.retry_after} s and try again."
        )
    elif refusal.code is ErrorCode.WORKFLOW_LIMIT:
        message = (
            f"{refusal.standing.workflows_active} of {refusal.standing.workflows_limit} workflows run at once, with at "
            f"most {want.terms.fanout} parallel requests each. Wait {refusal.retry_after} s, or release a workflow."
        )
    elif refusal.code is ErrorCode.IDEMPOTENCY_MISMATCH:
        message = "This Idempotency-Key came with another body before. Send another key with another request."
    elif refusal.code is ErrorCode.IDEMPOTENCY_IN_FLIGHT:
        message = "The first request with this Idempotency-Key still runs. Wait, then send it again for its answer."
    else:
        message = _spent(refusal.standing, want)
    return Refused(refusal, want, message)


def _spent(standing: Standing, want: Reservation) -> str:
    """Say which allowance a request found spent, and what would help."""
    first, last = want.offers[0], want.offers[-1]
    left = f"{standing.remaining} of {standing.limit} fair-use units are left"
    needs = f", and this request needs {first.units}" if first.purse is Purse.FAIR_USE else ""
    until = f"Wait for the next window ({rfc3339(standing.resets_at)})"
    if last.purse is Purse.CONTINUATION:
        limit = want.terms.continuation_limit
        return f"{left}{needs}; what is left of continuation's {limit} units does not cover it either. {until}."
    return f"{left}{needs}; by the plan or by your own word it does not continue on economy. {until}, or ask for less."
