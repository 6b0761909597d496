"""What reading the configuration again does to the ledger. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final

from flatfee.server.clocks import Moment
from flatfee.server.store.accounts import Account, NotAllowed, Scalar
from flatfee.server.store.commands import AdminBook, Done
from flatfee.server.store.directory import provision, refiled
from flatfee.server.store.records import NewAccount

_NAMED: Final = 5
"""Accounts that are named where more may be meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadSettings:
    """Bring the directory to what a configuration says that is read while the gateway runs.

    ``plans_gone`` are the plans that the configuration had and has no more; ``details`` is what changed.
    """

    action: ClassVar[str] = "settings.reload"
    accounts: Sequence[NewAccount]
    plans_gone: Sequence[str] = ()
    file: str = ""
    details: Mapping[str, Scalar] = field(default_factory=dict)

    def apply(self, book: AdminBook, now: Moment) -> Done[None]:
        """Do it, unless an account would be left with a plan that is gone."""
        for plan in self.plans_gone:
            left = self._left_with(plan, book)
            if left:
                names = ", ".join(account.name for account in left[:_NAMED])
                more = " and others" if len(left) > _NAMED else ""
                raise NotAllowed(
                    f"plans: {plan!r} is gone, and is the plan of {names}{more}; "
                    "keep it, or give them another plan first"
                )
        provision(book, self.accounts, now.wall)
        return Done(result=None, subject=self.file, details=self.details)

    def _left_with(self, plan: str, book: AdminBook) -> list[Account]:
        """Return accounts that have a plan, and have it still once the file is read: some, if there are many."""
        named = {entry.name: entry for entry in self.accounts}
        some = book.accounts_with(plan, len(named) + _NAMED + 1)
        return [each for each in some if each.name not in named or refiled(each, named[each.name]).plan == plan]
