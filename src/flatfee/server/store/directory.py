"""Who may ask: rules over the rows of accounts, projects and keys. Pure: no I/O, no clock.

Each function runs within one transaction of a store, as in ``transactions``. What an administrator
may do is in ``commands`` and its kin; here is what the configuration file does, and what a key stands for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from flatfee.server.store.accounts import Account, AuditEntry, Filed, Key, NewAuditEntry, Page, Project, Scalar
from flatfee.server.store.records import Caller, NewAccount, NewKey, NewProject
from flatfee.wire import Billing

FILE_ACTOR: Final = "file"
USED_SECONDS: Final = 60.0
"""The last use of a key is kept no finer than this: a busy key must not cost a write per request."""


class DirectoryBook(Protocol):
    """Rows of the directory, read and written within one transaction. Times are epoch seconds.

    ``put_…`` makes a row or writes over the one with the same name (a key: with the same digest).
    Lists return one row more than the page's limit if more follow.
    """

    def account(self, name: str) -> Account | None: ...
    def accounts(self, page: Page) -> list[Account]:
        """Return accounts by name."""
        ...

    def filed_accounts(self) -> list[Account]:
        """Return every account that the configuration file named when it was last read."""
        ...

    def accounts_with(self, plan: str, most: int) -> list[Account]:
        """Return accounts that have a plan, by name, and no more than ``most``."""
        ...

    def put_account(self, account: Account) -> None: ...
    def drop_account(self, name: str) -> None:
        """Remove an account and its projects."""
        ...

    def project(self, account: str, name: str) -> Project | None: ...
    def projects(self, account: str, page: Page) -> list[Project]:
        """Return an account's projects by name."""
        ...

    def put_project(self, project: Project) -> None: ...
    def drop_project(self, account: str, name: str) -> None: ...
    def key(self, key_id: str) -> Key | None: ...
    def key_of(self, digest: bytes) -> Key | None: ...
    def keys(self, account: str | None, project: str | None, page: Page) -> list[Key]:
        """Return keys, oldest first; of an account or one of its projects, if they are given."""
        ...

    def live_keys(self, account: str, project: str | None) -> list[Key]:
        """Return the keys of an account or one of its projects that are not revoked."""
        ...

    def live_file_keys(self) -> list[Key]:
        """Return the keys from the configuration file that are not revoked."""
        ...

    def put_key(self, key: Key) -> None: ...
    def add_audit(self, entry: NewAuditEntry) -> None: ...
    def audit(self, page: Page) -> list[AuditEntry]:
        """Return entries of the audit log, newest first."""
        ...

    def caller(self, key_id: str, now: float) -> Caller | None:
        """Return what a key stands for within this transaction; ``None``: unknown, revoked or expired."""
        ...

    def used(self, key_id: str, now: float) -> None:
        """Note that a key was used, unless that was noted within the last ``USED_SECONDS``."""
        ...


def stands_for(key: Key, account: Account | None, project: Project | None, now: float) -> Caller | None:
    """Return what a key stands for, or ``None`` if it is revoked, expired or its account is gone."""
    if key.state(now) != "active" or (key.account is not None and account is None):
        return None
    return Caller(
        key_id=key.id,
        kind=key.kind,
        account=account.name if account else "",
        project=key.project,
        plan=account.plan if account else "",
        billing=account.billing if account else Billing.ACTIVE,
        billing_day=account.billing_day if account else 1,
        models=key.models,
        receipts=project.receipts if project else None,
    )


def provision(book: DirectoryBook, accounts: Sequence[NewAccount], now: float) -> None:
    """Bring the directory to what the configuration file says. Reading the same file again changes nothing.

    An edit of the file takes effect, and a change by an administrator outlives a restart: of an
    account, only what the file says otherwise than when it was last read is written. Keys follow
    the file: those it names no more end. Whatever it never named is left alone.
    """
    for entry in accounts:
        _file_account(book, entry, now)
        for project in entry.projects:
            _file_project(book, entry, project, now)
    named = {entry.name for entry in accounts}
    for account in book.filed_accounts():
        if account.name not in named:
            book.put_account(replace(account, filed=None))
    digests = {key.digest for entry in accounts for project in entry.projects for key in project.keys}
    for key in book.live_file_keys():
        if key.digest not in digests:
            book.put_key(replace(key, revoked_at=now))
            note(book, FILE_ACTOR, "key.revoke", key.id, {"name": key.name}, now)


def _says(entry: NewAccount) -> Filed:
    return Filed(plan=entry.plan, billing=entry.billing, billing_day=entry.billing_day)


def _file_account(book: DirectoryBook, entry: NewAccount, now: float) -> None:
    says = _says(entry)
    terms = asdict(says)
    kept = book.account(entry.name)
    if kept is None:
        book.put_account(Account(name=entry.name, created_at=now, filed=says, **terms))
        note(book, FILE_ACTOR, "account.create", entry.name, terms, now)
    elif kept.filed != says:
        changed = refiled(kept, entry)
        book.put_account(changed)
        if told := difference(kept, changed, terms):
            note(book, FILE_ACTOR, "account.change", entry.name, told, now)


def refiled(kept: Account, entry: NewAccount) -> Account:
    """Return an account as it is once the file is read: only what the file says otherwise than before is another."""
    says = _says(entry)
    before = asdict(kept.filed) if kept.filed is not None else {}
    changes = {name: value for name, value in asdict(says).items() if before.get(name) != value}
    return replace(kept, **changes, filed=says)


def _file_project(book: DirectoryBook, entry: NewAccount, project: NewProject, now: float) -> None:
    if book.project(entry.name, project.name) is None:
        book.put_project(Project(account=entry.name, name=project.name, created_at=now))
        note(book, FILE_ACTOR, "project.create", f"{entry.name}/{project.name}", {}, now)
    for key in project.keys:
        _file_key(book, entry.name, project.name, key, now)


def _file_key(book: DirectoryBook, account: str, project: str, new: NewKey, now: float) -> None:
    kept = book.key_of(new.digest)
    if kept is not None and kept.source == "api" and kept.revoked_at is not None:
        return  # an administrator ended it, and the file cannot bring it back
    key = Key(
        id=kept.id if kept else new.id,
        digest=new.digest,
        kind=new.kind,
        account=account,
        project=project,
        name=new.name,
        last4=new.last4,
        models=new.models,
        created_at=kept.created_at if kept else now,
        expires_at=new.expires_at,
        source="file",
        last_used_at=kept.last_used_at if kept else None,
    )
    if key != kept:
        book.put_key(key)
        details: dict[str, Scalar] = {"account": account, "project": project, "name": key.name}
        note(book, FILE_ACTOR, "key.change" if kept else "key.create", key.id, details, now)


def difference(before: object, after: object, names: Iterable[str]) -> dict[str, Scalar]:
    """Return what the audit log tells of a change: each changed value, and what it was."""
    told: dict[str, Scalar] = {}
    for name in names:
        was, became = getattr(before, name), getattr(after, name)
        if was != became:
            told |= {name: scalar(became), f"{name}_was": scalar(was)}
    return told


def scalar(value: Any) -> Scalar:
    """Return a value as the audit log keeps it: a set of names as one text, and a time in RFC 3339."""
    if isinstance(value, frozenset):
        return ", ".join(sorted(value))
    return f"{datetime.fromtimestamp(int(value), UTC):%Y-%m-%dT%H:%M:%SZ}" if isinstance(value, float) else value


def note(book: DirectoryBook, actor: str, action: str, subject: str, details: Mapping[str, Scalar], now: float) -> None:
    """Write an entry into the audit log."""
    book.add_audit(NewAuditEntry(at=now, actor=actor, action=action, subject=subject, details=details))
