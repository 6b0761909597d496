"""The directory's rows in SQLite. Statements only: ``directory`` and the commands decide."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

from flatfee.server.keys import KeyKind
from flatfee.server.store.accounts import Account, AuditEntry, Filed, Key, NewAuditEntry, Page, Project
from flatfee.server.store.directory import USED_SECONDS
from flatfee.server.store.records import Caller
from flatfee.wire import Billing, ReceiptDetail

_CALLER: Final = """
SELECT k.id, k.kind, k.account, k.project, k.models, a.plan, a.billing, a.billing_day, p.receipts, k.expires_at
FROM keys k
LEFT JOIN accounts a ON a.name = k.account
LEFT JOIN projects p ON p.account = k.account AND p.name = k.project
WHERE {key} = ?1 AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > ?2)
AND (k.account IS NULL OR a.name IS NOT NULL)
"""
_CALLER_BY_DIGEST: Final = _CALLER.format(key="k.digest")
_CALLER_BY_ID: Final = _CALLER.format(key="k.id")
_KEY: Final = (
    "id, digest, kind, account, project, name, last4, models, created_at, expires_at, source, revoked_at, last_used_at"
)


_MOST_NOTED: Final = 10_000

Until = tuple[Caller, float | None]
"""What a key stands for, and when it expires (epoch seconds), if it does."""


def still(found: Until, now: float) -> Caller | None:
    """Return what a key stands for, if it has not expired."""
    caller, until = found
    return caller if until is None or until > now else None


class SqliteDirectory:
    """A ``DirectoryBook`` over one connection, within whatever transaction is open on it."""

    _execute: Callable[..., sqlite3.Cursor]

    def __init__(self) -> None:
        self._noted: dict[str, float] = {}

    def account(self, name: str) -> Account | None:
        row = self._execute(f"{_ACCOUNTS} WHERE name = ?", (name,)).fetchone()
        return _account(row) if row else None

    def accounts(self, page: Page) -> list[Account]:
        rows = self._execute(f"{_ACCOUNTS} WHERE name > ? ORDER BY name LIMIT ?", (page.after or "", page.limit + 1))
        return [_account(row) for row in rows]

    def filed_accounts(self) -> list[Account]:
        return [_account(row) for row in self._execute(f"{_ACCOUNTS} WHERE from_file IS NOT NULL")]

    def accounts_with(self, plan: str, most: int) -> list[Account]:
        return [
            _account(row) for row in self._execute(f"{_ACCOUNTS} WHERE plan = ? ORDER BY name LIMIT ?", (plan, most))
        ]

    def put_account(self, account: Account) -> None:
        filed = json.dumps(asdict(account.filed)) if account.filed is not None else None
        self._execute(
            "INSERT INTO accounts (name, plan, billing, billing_day, created_at, from_file)"
            " VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
            " ON CONFLICT DO UPDATE SET plan = ?2, billing = ?3, billing_day = ?4, from_file = ?6",
            (account.name, account.plan, account.billing, account.billing_day, account.created_at, filed),
        )

    def drop_account(self, name: str) -> None:
        self._execute("DELETE FROM projects WHERE account = ?", (name,))
        self._execute("DELETE FROM accounts WHERE name = ?", (name,))

    def project(self, account: str, name: str) -> Project | None:
        row = self._execute(f"{_PROJECTS} WHERE account = ? AND name = ?", (account, name)).fetchone()
        return _project(row) if row else None

    def projects(self, account: str, page: Page) -> list[Project]:
        rows = self._execute(
            f"{_PROJECTS} WHERE account = ? AND name > ? ORDER BY name LIMIT ?",
            (account, page.after or "", page.limit + 1),
        )
        return [_project(row) for row in rows]

    def put_project(self, project: Project) -> None:
        self._execute(
            "INSERT INTO projects (account, name, receipts, created_at) VALUES (?1, ?2, ?3, ?4)"
            " ON CONFLICT DO UPDATE SET receipts = ?3",
            (project.account, project.name, project.receipts, project.created_at),
        )

    def drop_project(self, account: str, name: str) -> None:
        self._execute("DELETE FROM projects WHERE account = ? AND name = ?", (account, name))

    def key(self, key_id: str) -> Key | None:
        row = self._execute(f"{_KEYS} WHERE id = ?", (key_id,)).fetchone()
        return _key(row) if row else None

    def key_of(self, digest: bytes) -> Key | None:
        row = self._execute(f"{_KEYS} WHERE digest = ?", (digest,)).fetchone()
        return _key(row) if row else None

    def keys(self, account: str | None, project: str | None, page: Page) -> list[Key]:
        where = [
            f"{name} = :{name}" for name, value in (("account", account), ("project", project)) if value is not None
        ]
        if page.after is not None:
            where.append("(created_at, id) > (SELECT created_at, id FROM keys WHERE id = :after)")
        rows = self._execute(
            f"{_KEYS} WHERE {' AND '.join(where) or '1'} ORDER BY created_at, id LIMIT :limit",
            {"account": account, "project": project, "after": page.after, "limit": page.limit + 1},
        )
        return [_key(row) for row in rows]

    def live_keys(self, account: str, project: str | None) -> list[Key]:
        rows = self._execute(
            f"{_KEYS} WHERE account = ?1 AND (?2 IS NULL OR project = ?2) AND revoked_at IS NULL", (account, project)
        )
        return [_key(row) for row in rows]

    def live_file_keys(self) -> list[Key]:
        return [_key(row) for row in self._execute(f"{_KEYS} WHERE source = 'file' AND revoked_at IS NULL")]

    def put_key(self, key: Key) -> None:
        models = json.dumps(sorted(key.models)) if key.models is not None else None
        self._execute(
            _PUT_KEY,
            (
                key.id,
                key.digest,
                key.kind,
                key.account,
                key.project,
                key.name,
                key.last4,
                models,
                key.created_at,
                key.expires_at,
                key.source,
                key.revoked_at,
                key.last_used_at,
            ),
        )

    def add_audit(self, entry: NewAuditEntry) -> None:
        self._execute(
            "INSERT INTO audit (at, actor, action, subject, details) VALUES (?, ?, ?, ?, ?)",
            (entry.at, entry.actor, entry.action, entry.subject, json.dumps(dict(entry.details))),
        )

    def audit(self, page: Page) -> list[AuditEntry]:
        where = "id < :after" if page.after is not None else "1"
        rows = self._execute(
            f"{_AUDIT} WHERE {where} ORDER BY id DESC LIMIT :limit",
            {"after": page.after and int(page.after), "limit": page.limit + 1},
        )
        return [
            AuditEntry(id=id_, at=at, actor=actor, action=action, subject=subject, details=json.loads(details))
            for id_, at, actor, action, subject, details in rows
        ]

    def caller(self, key_id: str, now: float) -> Caller | None:
        found = self.caller_until(key_id, now)
        return found[0] if found is not None else None

    def caller_until(self, key: str | bytes, now: float) -> Until | None:
        """Return what a key, told by its id or its digest, stands for and when it expires, if it does."""
        statement = _CALLER_BY_ID if isinstance(key, str) else _CALLER_BY_DIGEST
        return _caller(self._execute(statement, (key, now)).fetchone())

    def rolled_back(self) -> None:
        """Forget what was noted beside the rows: it may not have been written."""
        self._noted.clear()

    def used(self, key_id: str, now: float) -> None:
        if abs(now - self._noted.get(key_id, -USED_SECONDS)) < USED_SECONDS:
            return  # what was noted a moment ago need not be written again
        if len(self._noted) >= _MOST_NOTED:
            self._noted.clear()
        self._noted[key_id] = now
        self._execute(
            "UPDATE keys SET last_used_at = ?2 WHERE id = ?1 AND (last_used_at IS NULL OR last_used_at <= ?3)",
            (key_id, now, now - USED_SECONDS),
        )


_ACCOUNTS: Final = "SELECT name, plan, billing, billing_day, created_at, from_file FROM accounts"
_AUDIT: Final = "SELECT id, at, actor, action, subject, details FROM audit"
_PROJECTS: Final = "SELECT account, name, receipts, created_at FROM projects"
_PUT_KEY: Final = f"INSERT OR REPLACE INTO keys ({_KEY}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - made of constants
_KEYS: Final = f"SELECT {_KEY} FROM keys"  # noqa: S608 - made of constants


def _account(row: tuple[Any, ...]) -> Account:
    name, plan, billing, billing_day, created_at, from_file = row
    filed = json.loads(from_file) if from_file is not None else None
    return Account(
        name=name,
        plan=plan,
        billing=Billing(billing),
        billing_day=billing_day,
        created_at=created_at,
        filed=Filed(**filed | {"billing": Billing(filed["billing"])}) if filed else None,
    )


def _project(row: tuple[Any, ...]) -> Project:
    account, name, receipts, created_at = row
    detail = ReceiptDetail(receipts) if receipts is not None else None
    return Project(account=account, name=name, receipts=detail, created_at=created_at)


def _key(row: tuple[Any, ...]) -> Key:
    id_, digest, kind, account, project, name, last4, models, created, expires, source, revoked, used = row
    return Key(
        id=id_,
        digest=digest,
        kind=KeyKind(kind),
        account=account,
        project=project,
        name=name,
        last4=last4,
        models=_models(models),
        created_at=created,
        expires_at=expires,
        source=source,
        revoked_at=revoked,
        last_used_at=used,
    )


def _models(text: str | None) -> frozenset[str] | None:
    return frozenset(json.loads(text)) if text is not None else None


def _caller(row: tuple[Any, ...] | None) -> Until | None:
    if row is None:
        return None
    id_, kind, account, project, models, plan, billing, billing_day, receipts, expires_at = row
    caller = Caller(
        key_id=id_,
        kind=KeyKind(kind),
        account=account or "",
        project=project,
        plan=plan or "",
        billing=Billing(billing) if billing is not None else Billing.ACTIVE,
        billing_day=billing_day or 1,
        models=_models(models),
        receipts=ReceiptDetail(receipts) if receipts is not None else None,
    )
    return caller, expires_at
