"""The ledger's entries: receipts, and the adjustments made beside them. Pure rules over a book's rows.

A receipt is written once and never edited. What is learned later, a settlement that came after the
lease had run out or a refund, is an adjustment of its own, in the window of the receipt it belongs to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flatfee.receipt import FairUse, Receipt, WorkflowState
from flatfee.server.asked import BESIDE, Beside, with_beside
from flatfee.server.clocks import Moment
from flatfee.server.statement import Statement
from flatfee.server.store import ledger
from flatfee.server.store.book import Adjustment, Entries, KeptReceipt, OpenTicket
from flatfee.server.store.records import Caller, LedgerQuery, OwnedReceipt, Purse, Settlement, Ticket
from flatfee.wire import ReceiptState

LATE, REFUND = "late", "refund"
_FIGURES = ("request_id", "lane", "reason", "state", "tier", "fair_use", "usage", "compaction", "created_at")
"""What is kept of a receipt when little is to be kept: no models, routes, attempts or workflow."""


class NoSuchReceipt(Exception):
    """There is no receipt of that request."""


class NothingToRefund(Exception):
    """More units are to be refunded than the request is charged."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose receipt it is."""

    account: str
    project: str | None


def enter(
    book: Entries, ticket: OpenTicket, receipt: Receipt | Statement, charged: int, beside: Beside | None, at: float
) -> bytes:
    """Write the entry that ends a ticket: its receipt, with what it is charged; return as JSON what of it is told.

    ``at`` is when it ended (wall time).
    """
    json = as_json(receipt)
    kept = as_json(_kept(receipt, reduced=True)) if ticket.reduced else json
    _add(book, ticket, receipt.lane, with_beside(kept, beside, ledger.moment(at), reduced=ticket.reduced), charged)
    return json


def enter_lapsed(book: Entries, ticket: OpenTicket, charged: int) -> None:
    """Write the entry that ends a ticket whose holder was lost, with what it is charged."""
    receipt = lapsed_receipt(ticket, charged)
    kept = as_json(_kept(receipt, reduced=ticket.reduced))
    _add(book, ticket, receipt.lane, kept, charged, lapsed=True)


def _add(
    book: Entries, ticket: OpenTicket, lane: str | None, json: bytes, charged: int, *, lapsed: bool = False
) -> None:
    book.add_receipt(
        KeptReceipt(
            request_id=ticket.request_id,
            account=ticket.account,
            project=ticket.project,
            workflow=None if ticket.reduced else ticket.workflow,
            lane=lane,
            json=json,
            at=ticket.at,
            purse=ticket.purse,
            unit=ticket.unit,
            charged=charged,
            lapsed=lapsed,
        )
    )


def enter_refusal(
    book: Entries, owner: Owner, receipt: Receipt, beside: Beside | None, at: float, *, reduced: bool = False
) -> None:
    """Write the receipt of a request that was refused before it held a ticket."""
    workflow = receipt.workflow.id if receipt.workflow else None
    book.add_receipt(
        KeptReceipt(
            request_id=receipt.request_id or "",
            account=owner.account,
            project=owner.project,
            workflow=None if reduced else workflow,
            lane=receipt.lane,
            json=_kept_json(receipt, beside, at, reduced=reduced),
            at=at,
        )
    )


def correction(kept: KeptReceipt, adjustments: Sequence[Adjustment], charged: int) -> int:
    """Return what a settlement that came after the lease had run out changes of what is charged: 0, or below it.

    The estimate that was charged then is a ceiling; and what was refunded is not given back again.
    """
    return max(min(charged, kept.charged) - kept.charged, -net(kept, adjustments))


def correct(
    book: Entries,
    kept: KeptReceipt,
    receipt: Receipt | Statement,
    units: int,
    beside: Beside | None,
    now: Moment,
    *,
    reduced: bool,
) -> None:
    """Enter a settlement that came after the lease had run out, with its correction in units."""
    _adjust(book, kept, units, LATE, "", now, _kept_json(receipt, beside, now.wall, reduced=reduced))


def refund(book: Entries, request_id: str, units: int | None, note: str, now: Moment) -> KeptReceipt:
    """Give back units of a charge, or all of it with ``None``, in the window that it was made in.

    Raises:
        NoSuchReceipt: there is no receipt of that request.
        NothingToRefund: it is charged less than that.
    """
    kept = book.kept_receipt(request_id)
    if kept is None:
        raise NoSuchReceipt(request_id)
    charged = net(kept, book.adjustments(request_id))
    units = charged if units is None else units
    if not 1 <= units <= charged:
        message = f"{units} units cannot be refunded: the request is charged {charged}"
        raise NothingToRefund(message)
    _adjust(book, kept, -units, REFUND, note, now, None)
    return kept


def _adjust(
    book: Entries, kept: KeptReceipt, units: int, kind: str, note: str, now: Moment, json: bytes | None
) -> None:
    book.add_adjustment(
        Adjustment(
            request_id=kept.request_id,
            account=kept.account,
            purse=kept.purse,
            unit=kept.unit,
            units=units,
            at=kept.at,
            made_at=now.wall,
            kind=kind,
            note=note,
            json=json,
        )
    )
    book.shift_balance(kept.account, kept.unit, kept.at, ledger.change(kept.purse, posted=units))


def net(kept: KeptReceipt, adjustments: Sequence[Adjustment]) -> int:
    """Return the units that a request is charged in all."""
    return kept.charged + sum(adjustment.units for adjustment in adjustments)


def shown(kept: KeptReceipt, adjustments: Sequence[Adjustment]) -> bytes:
    """Return a receipt's JSON as it stands after its adjustments."""
    if not adjustments:
        return kept.json
    told = [adjustment.json for adjustment in adjustments if adjustment.json is not None]
    receipt = Receipt.model_validate_json(told[-1] if told else kept.json)
    charged = net(kept, adjustments) if kept.purse is Purse.FAIR_USE else 0
    use = (receipt.fair_use or FairUse(unit=kept.unit)).model_copy(update={"charged": charged})
    return as_json(receipt.model_copy(update={"fair_use": use}))


def page(book: Entries, query: LedgerQuery) -> tuple[list[OwnedReceipt], bool]:
    """Return a page of receipts as they stand now, newest first, and whether more follow."""
    found = book.kept_receipts(query)
    return [owned(book, kept) for kept in found[: query.limit]], len(found) > query.limit


def owned(book: Entries, kept: KeptReceipt) -> OwnedReceipt:
    """Return a receipt as it stands now, and whose it is."""
    json = shown(kept, book.adjustments(kept.request_id))
    return OwnedReceipt(account=kept.account, project=kept.project, json=json)


def settlement_of(kept: KeptReceipt, adjustments: Sequence[Adjustment]) -> Settlement:
    """Return the settlement that a kept receipt tells."""
    json = told(shown(kept, adjustments))
    return Settlement(json=json)


def told(json: bytes) -> bytes:
    """Return of a kept receipt what its caller is told with the answer: nothing that is kept beside it."""
    return Receipt.model_validate_json(json).model_dump_json(exclude_unset=True, exclude=set(BESIDE)).encode()


def as_json(receipt: Receipt | Statement) -> bytes:
    """Return a receipt as JSON. What was not set is left out."""
    if isinstance(receipt, Statement):
        return receipt.json()
    return receipt.model_dump_json(exclude_unset=True).encode()


def _kept_json(receipt: Receipt | Statement, beside: Beside | None, at: float, *, reduced: bool) -> bytes:
    json = as_json(_kept(receipt, reduced=reduced))
    return with_beside(json, beside, ledger.moment(at), reduced=reduced)


def _kept(receipt: Receipt | Statement, *, reduced: bool) -> Receipt | Statement:
    """Return what is kept of a receipt: its figures, where little is to be kept."""
    if not reduced:
        return receipt
    if isinstance(receipt, Statement):
        return receipt.figures()
    return Receipt(**{name: getattr(receipt, name) for name in _FIGURES if name in receipt.model_fields_set})


def running_receipt(ticket: OpenTicket) -> Receipt:
    """Return the receipt of a request that has not ended."""
    facts: dict[str, object] = {
        "request_id": ticket.request_id,
        "lane": ticket.lane,
        "reason": ticket.reason,
        "state": ReceiptState.IN_FLIGHT,
        "model_requested": ticket.model_requested,
        "created_at": ledger.moment(ticket.at),
    }
    if ticket.workflow is not None:
        facts["workflow"] = WorkflowState(id=ticket.workflow)
    return Receipt.model_validate(facts)


def lapsed_receipt(ticket: OpenTicket, charged: int) -> Receipt:
    """Return the receipt of a request whose holder was lost: charged its estimate if it was dispatched."""
    return running_receipt(ticket).model_copy(
        update={
            "state": ReceiptState.ESTIMATED if ticket.dispatched else ReceiptState.REFUSED,
            "fair_use": FairUse(unit=ticket.unit, charged=charged if ticket.purse is Purse.FAIR_USE else 0),
        }
    )


def may_see(caller: Caller, account: str, project: str | None) -> bool:
    """Tell whether a caller may see what belongs to a project: its own; with a team key, the account's."""
    return caller.account == account and (caller.project is None or caller.project == project)


def belongs_to(kept: KeptReceipt, ticket: Ticket) -> bool:
    """Tell whether a receipt is of the request that a ticket is of."""
    return (kept.account, kept.project) == (ticket.account, ticket.project)
