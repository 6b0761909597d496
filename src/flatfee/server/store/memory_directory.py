"""The directory's rows in dictionaries. ``directory`` and the commands decide what may happen."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import fields, replace
from itertools import islice
from typing import Final, TypeVar

from flatfee.server.store.accounts import Account, AuditEntry, Key, NewAuditEntry, Page, Project
from flatfee.server.store.directory import USED_SECONDS, stands_for
from flatfee.server.store.records import Caller

_T = TypeVar("_T")
_MAX_AUDIT: Final = 10_000


class MemoryDirectory:
    """A ``DirectoryBook`` in memory. Of the audit log, the newest entries are kept."""

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}
        self._projects: dict[tuple[str, str], Project] = {}
        self._keys: dict[bytes, Key] = {}
        self._digests: dict[str, bytes] = {}
        self._callers: dict[bytes, Caller] = {}  # what keys stand for, until anything of the directory changes
        self._audit: deque[AuditEntry] = deque(maxlen=_MAX_AUDIT)

    def account(self, name: str) -> Account | None:
        return self._accounts.get(name)

    def accounts(self, page: Page) -> list[Account]:
        return _page((self._accounts[name] for name in sorted(self._accounts) if name > (page.after or "")), page)

    def filed_accounts(self) -> list[Account]:
        return [account for account in self._accounts.values() if account.from_file]

    def accounts_with(self, plan: str, most: int) -> list[Account]:
        return [account for _, account in sorted(self._accounts.items()) if account.plan == plan][:most]

    def put_account(self, account: Account) -> None:
        self._callers.clear()
        self._accounts[account.name] = account

    def drop_account(self, name: str) -> None:
        self._callers.clear()
        del self._accounts[name]
        self._projects = {key: project for key, project in self._projects.items() if project.account != name}

    def project(self, account: str, name: str) -> Project | None:
        return self._projects.get((account, name))

    def projects(self, account: str, page: Page) -> list[Project]:
        found = (self._projects[key] for key in sorted(self._projects) if key[0] == account)
        return _page((project for project in found if project.name > (page.after or "")), page)

    def put_project(self, project: Project) -> None:
        self._callers.clear()
        self._projects[project.account, project.name] = project

    def drop_project(self, account: str, name: str) -> None:
        self._callers.clear()
        del self._projects[account, name]

    def key(self, key_id: str) -> Key | None:
        digest = self._digests.get(key_id)
        return self._keys[digest] if digest is not None else None

    def key_of(self, digest: bytes) -> Key | None:
        return self._keys.get(digest)

    def keys(self, account: str | None, project: str | None, page: Page) -> list[Key]:
        last = self.key(page.after) if page.after is not None else None
        if page.after is not None and last is None:
            return []
        found = sorted(self._keys.values(), key=_age)
        return _page(
            (
                key
                for key in found
                if account in {None, key.account}
                and project in {None, key.project}
                and (last is None or _age(key) > _age(last))
            ),
            page,
        )

    def live_keys(self, account: str, project: str | None) -> list[Key]:
        return [
            key
            for key in self._keys.values()
            if key.account == account and project in {None, key.project} and key.revoked_at is None
        ]

    def live_file_keys(self) -> list[Key]:
        return [key for key in self._keys.values() if key.source == "file" and key.revoked_at is None]

    def put_key(self, key: Key) -> None:
        self._callers.clear()
        self._keys[key.digest] = key
        self._digests[key.id] = key.digest

    def add_audit(self, entry: NewAuditEntry) -> None:
        number = self._audit[-1].id + 1 if self._audit else 1
        told = {field.name: getattr(entry, field.name) for field in fields(entry)}
        self._audit.append(AuditEntry(id=number, **told))

    def audit(self, page: Page) -> list[AuditEntry]:
        return _page(
            (entry for entry in reversed(self._audit) if page.after is None or entry.id < int(page.after)), page
        )

    def caller(self, key_id: str, now: float) -> Caller | None:
        key = self.key(key_id)
        return self.caller_of(key.digest, now) if key is not None else None

    def caller_of(self, digest: bytes, now: float) -> Caller | None:
        """Return what the key with a digest stands for."""
        key = self._keys.get(digest)
        if key is None:
            return None
        known = self._callers.get(digest)
        if known is not None:
            return known if key.state(now) == "active" else None
        project = self.project(key.account or "", key.project or "")
        found = stands_for(key, self.account(key.account or ""), project, now)
        if found is not None:
            self._callers[digest] = found
        return found

    def used(self, key_id: str, now: float) -> None:
        key = self.key(key_id)
        if key is not None and (key.last_used_at is None or key.last_used_at <= now - USED_SECONDS):
            self._keys[key.digest] = replace(key, last_used_at=now)


def _page(found: Iterable[_T], page: Page) -> list[_T]:
    return list(islice(found, page.limit + 1))


def _age(key: Key) -> tuple[float, str]:
    return key.created_at, key.id
