"""What an administrator's command is, and how it is done: its rule, and what the audit log tells of it.

``administer`` is one transaction: what a command writes and its entry in the audit log are kept
together, or neither is. A command checks everything before it writes. The commands themselves are in
``account_commands``, ``key_commands`` and ``ledger_commands``. Pure: no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, ClassVar, Final, Generic, Protocol, TypeVar

from flatfee.server.clocks import Moment
from flatfee.server.keys import shown
from flatfee.server.store.accounts import Account, Key, NoSuch, Project, Scalar
from flatfee.server.store.book import Book
from flatfee.server.store.directory import DirectoryBook, note

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


def known_account(book: DirectoryBook, name: str) -> Account:
    """Return an account, or say that there is none."""
    account = book.account(name)
    if account is None:
        raise no_account(name)
    return account


def no_account(name: str) -> NoSuch:
    """Return what is told of an account that is not there."""
    return NoSuch(f"There is no account {shown(name)}; list them with GET /admin/v1/accounts.")


def known_project(book: DirectoryBook, account: str, name: str) -> Project:
    """Return a project, or say that there is none."""
    known_account(book, account)
    project = book.project(account, name)
    if project is None:
        raise NoSuch(
            f"The account {account!r} has no project {shown(name)}; "
            f"list them with GET /admin/v1/accounts/{account}/projects."
        )
    return project


def changed(row: _Row, **values: Any) -> _Row:
    """Return a row with the values that are not ``UNCHANGED``."""
    return replace(row, **{name: value for name, value in values.items() if value is not UNCHANGED})
