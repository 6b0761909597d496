"""What an administrator may do with accounts and their projects."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from flatfee.server.clocks import Moment
from flatfee.server.store.accounts import Account, Exists, Key, NotAllowed, Project, Scalar
from flatfee.server.store.commands import (
    UNCHANGED,
    AdminBook,
    Done,
    Unchanged,
    changed,
    known_account,
    known_project,
)
from flatfee.server.store.directory import DirectoryBook, difference
from flatfee.wire import Billing, ReceiptDetail


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


def _revoke_all(book: DirectoryBook, keys: list[Key], now: float) -> int:
    for key in keys:
        book.put_key(replace(key, revoked_at=now))
    return len(keys)
