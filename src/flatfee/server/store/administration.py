"""What an administrator may do, one command each: its rule, and what the audit log tells of it.

``administer`` is one transaction: what a command writes and its entry in the audit log are kept
together, or neither is. A command checks everything before it writes. Pure: no I/O, no clock; a
key's secret was made and shown before, and only its digest comes here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, ClassVar, Final, Generic, Protocol, TypeVar

from flatfee.server.clocks import Moment
from flatfee.server.store import entries, transactions
from flatfee.server.store.accounts import Account, Exists, Key, NoSuch, NotAllowed, Project, Scalar
from flatfee.server.store.book import Book, SlotKey
from flatfee.server.store.directory import DirectoryBook, difference, note
from flatfee.wire import Billing, ReceiptDetail

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)
_Row = TypeVar("_Row", Account, Project, Key)


class AdminBook(Book, DirectoryBook, Protocol):
    """The rows of the ledger and of the directory, within one transaction, whoever they belong to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done(Generic[_T_co]):
    """What a command did: its result, whom it concerned, and what to note of it."""

    result: _T_co
    subject: str
    details: Mapping[str, Scalar] = field(default_factory=dict)


class Command(Protocol[_T_co]):
    """Something to be done. ``action`` is its name in the audit log."""

    action: ClassVar[str]

    def apply(self, book: AdminBook, now: Moment) -> Done[_T_co]:
        """Do it.

        Raises:
            Denied: it cannot be done; nothing was written.
        """
        ...


class Unchanged(Enum):
    """The value of what a change leaves as it is; ``None`` is a value of its own."""

    UNCHANGED = "unchanged"


UNCHANGED: Final = Unchanged.UNCHANGED


def administer(book: AdminBook, actor: str, command: Command[_T], now: Moment) -> _T:
    """Do what a command says, and note who did it.

    Raises:
        Denied: it cannot be done; nothing was written.
    """
    done = command.apply(book, now)
    note(book, actor, command.action, done.subject, done.details, now.wall)
    return done.result


@dataclass(frozen=True, slots=True, kw_only=True)
class AddAccount:
    """Make an account. That its plan exists is for the one who knows the plans to check."""

    action: ClassVar[str] = "account.create"
    name: str
    plan: str
    billing: Billing = Billing.ACTIVE
    billing_day: int = 1

    def apply(self, book: AdminBook, now: Moment) -> Done[Account]:
        """Make it, unless the name is taken."""
        if book.account(self.name) is not None:
            raise Exists(f"There is an account {self.name!r} already; choose another name.")
        account = Account(
            name=self.name, plan=self.plan, billing=self.billing, billing_day=self.billing_day, created_at=now.wall
        )
        book.put_account(account)
        details: dict[str, Scalar] = {"plan": self.plan, "billing": self.billing, "billing_day": self.billing_day}
        return Done(result=account, subject=self.name, details=details)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeAccount:
    """Change what is given of an account."""

    action: ClassVar[str] = "account.change"
    name: str
    plan: str | Unchanged = UNCHANGED
    billing: Billing | Unchanged = UNCHANGED
    billing_day: int | Unchanged = UNCHANGED

    def apply(self, book: AdminBook, now: Moment) -> Done[Account]:
        """Change it; what was used of its window stays used."""
        del now
        before = known_account(book, self.name)
        after = changed(before, plan=self.plan, billing=self.billing, billing_day=self.billing_day)
        book.put_account(after)
        details = difference(before, after, ("plan", "billing", "billing_day"))
        return Done(result=after, subject=self.name, details=details)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveAccount:
    """Remove an account and its projects, and revoke its keys. Receipts and what was used stay."""

    action: ClassVar[str] = "account.delete"
    name: str

    def apply(self, book: AdminBook, now: Moment) -> Done[Account]:
        """Remove it, unless the configuration file names it."""
        account = known_account(book, self.name)
        if account.from_file:
            raise NotAllowed(
                f"The account {self.name!r} is named by the configuration file; take it out there, restart, "
                "and then delete it."
            )
        ended = _revoke_all(book, book.live_keys(self.name, None), now.wall)
        book.drop_account(self.name)
        return Done(result=account, subject=self.name, details={"keys_revoked": ended})


@dataclass(frozen=True, slots=True, kw_only=True)
class AddProject:
    """Make a project of an account."""

    action: ClassVar[str] = "project.create"
    account: str
    name: str
    receipts: ReceiptDetail | None = None

    def apply(self, book: AdminBook, now: Moment) -> Done[Project]:
        """Make it, unless the name is taken."""
        known_account(book, self.account)
        if book.project(self.account, self.name) is not None:
            raise Exists(f"The account {self.account!r} has a project {self.name!r} already; choose another name.")
        project = Project(account=self.account, name=self.name, receipts=self.receipts, created_at=now.wall)
        book.put_project(project)
        return Done(result=project, subject=f"{self.account}/{self.name}", details={"receipts": self.receipts})


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeProject:
    """Change how much a project's receipts tell; ``None``: as the configuration says."""

    action: ClassVar[str] = "project.change"
    account: str
    name: str
    receipts: ReceiptDetail | Unchanged | None = UNCHANGED

    def apply(self, book: AdminBook, now: Moment) -> Done[Project]:
        """Change it for the receipts to come."""
        del now
        before = known_project(book, self.account, self.name)
        after = changed(before, receipts=self.receipts)
        book.put_project(after)
        details = difference(before, after, ("receipts",))
        return Done(result=after, subject=f"{self.account}/{self.name}", details=details)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveProject:
    """Remove a project and revoke its keys. Its receipts stay."""

    action: ClassVar[str] = "project.delete"
    account: str
    name: str

    def apply(self, book: AdminBook, now: Moment) -> Done[Project]:
        """Remove it, unless a key of it came from the configuration file."""
        project = known_project(book, self.account, self.name)
        keys = book.live_keys(self.account, self.name)
        filed = [key.name for key in keys if key.source == "file"]
        if filed:
            raise NotAllowed(
                f"The key {filed[0]!r} of the project {self.name!r} is named by the configuration file; "
                "take it out there, restart, and then delete the project."
            )
        ended = _revoke_all(book, keys, now.wall)
        book.drop_project(self.account, self.name)
        return Done(result=project, subject=f"{self.account}/{self.name}", details={"keys_revoked": ended})


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
            raise NoSuch(f"There is no receipt {self.request_id[:40]!r}.") from error
        except entries.NothingToRefund as error:
            raise NotAllowed(f"Nothing was refunded: {error}.") from error
        made = book.adjustments(self.request_id)
        details: dict[str, Scalar] = {"account": kept.account, "units": -made[-1].units, "note": self.note}
        return Done(result=entries.shown(kept, made), subject=self.request_id, details=details)


def known_account(book: DirectoryBook, name: str) -> Account:
    """Return an account, or say that there is none."""
    account = book.account(name)
    if account is None:
        raise NoSuch(f"There is no account {name[:64]!r}; list them with GET /admin/v1/accounts.")
    return account


def known_project(book: DirectoryBook, account: str, name: str) -> Project:
    """Return a project, or say that there is none."""
    known_account(book, account)
    project = book.project(account, name)
    if project is None:
        raise NoSuch(
            f"The account {account!r} has no project {name[:64]!r}; "
            f"list them with GET /admin/v1/accounts/{account}/projects."
        )
    return project


def changed(row: _Row, **values: Any) -> _Row:
    """Return a row with the values that are not ``UNCHANGED``."""
    return replace(row, **{name: value for name, value in values.items() if value is not UNCHANGED})


def _revoke_all(book: DirectoryBook, keys: list[Key], now: float) -> int:
    for key in keys:
        book.put_key(replace(key, revoked_at=now))
    return len(keys)
