"""Rows that tests write without going through a command."""

from typing import Any

from flatfee.server.store.accounts import Account, Key, Project
from flatfee.server.store.records import Caller


def make_known(book: Any, caller: Caller, digest: bytes) -> None:
    """Write the rows that a caller is read from."""
    if book.account(caller.account) is None:
        book.put_account(
            Account(
                name=caller.account,
                plan=caller.plan,
                billing=caller.billing,
                billing_day=caller.billing_day,
                created_at=0.0,
            )
        )
    if caller.project is not None and book.project(caller.account, caller.project) is None:
        book.put_project(Project(account=caller.account, name=caller.project, receipts=None, created_at=0.0))
    book.put_key(
        Key(
            id=caller.key_id,
            digest=digest,
            kind=caller.kind,
            account=caller.account,
            project=caller.project,
            name="key",
            last4="abcd",
            models=None,
            created_at=0.0,
            expires_at=None,
            source="api",
            revoked_at=None,
            last_used_at=None,
        )
    )
