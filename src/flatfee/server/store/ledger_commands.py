"""What an administrator may do to the ledger: give a workflow's slot back, and units of a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flatfee.server.clocks import Moment
from flatfee.server.keys import shown
from flatfee.server.store import entries, transactions
from flatfee.server.store.accounts import NoSuch, NotAllowed, Scalar
from flatfee.server.store.book import SlotKey
from flatfee.server.store.commands import AdminBook, Done


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseWorkflow:
    """Give a workflow's slot back, at once or with its last running request. No project: a team key's."""

    action: ClassVar[str] = "workflow.release"
    account: str
    project: str | None
    workflow: str

    def apply(self, book: AdminBook, now: Moment) -> Done[None]:
        """Release it, if it holds a slot."""
        owner = f"{self.account}/{self.project}" if self.project is not None else self.account
        if not transactions.release(book, SlotKey(self.account, self.project, self.workflow), now):
            raise NoSuch(f"There is no live workflow {self.workflow[:128]!r} of {owner!r}.")
        return Done(result=None, subject=f"{owner}/{self.workflow}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """Give back units that a request was charged; ``None``: all of them. Returns its receipt as JSON."""

    action: ClassVar[str] = "receipt.refund"
    request_id: str
    units: int | None = None
    note: str = ""

    def apply(self, book: AdminBook, now: Moment) -> Done[bytes]:
        """Refund, into the window that the request was charged in."""
        try:
            kept = entries.refund(book, self.request_id, self.units, self.note, now)
        except entries.NoSuchReceipt as error:
            raise NoSuch(f"There is no receipt {shown(self.request_id, 40)}.") from error
        except entries.NothingToRefund as error:
            raise NotAllowed(f"Nothing was refunded: {error}.") from error
        made = book.adjustments(self.request_id)
        details: dict[str, Scalar] = {"account": kept.account, "units": -made[-1].units, "note": self.note}
        return Done(result=entries.shown(kept, made), subject=self.request_id, details=details)
