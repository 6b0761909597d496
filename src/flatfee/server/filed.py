"""The accounts of the configuration, as the ledger takes them. Pure."""

from __future__ import annotations

from flatfee.server.keys import KeyKind, digest
from flatfee.server.settings import AccountSettings, KeySettings, Settings
from flatfee.server.store.records import NewAccount, NewKey, NewProject


def filed_accounts(settings: Settings) -> list[NewAccount]:
    """Return what the configuration says of accounts, their projects and keys."""
    return [_account(entry) for entry in settings.accounts]


def _account(entry: AccountSettings) -> NewAccount:
    return NewAccount(
        name=entry.name,
        plan=entry.plan,
        billing=entry.billing,
        billing_day=entry.billing_day,
        projects=tuple(
            NewProject(name=project.name, keys=tuple(_key(key) for key in project.keys)) for project in entry.projects
        ),
    )


def _key(entry: KeySettings) -> NewKey:
    secret = entry.secret.get_secret_value()
    return NewKey(digest=digest(secret), name=entry.name, kind=KeyKind.PROJECT, last4=secret[-4:])
