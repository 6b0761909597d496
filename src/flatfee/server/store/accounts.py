"""Accounts, projects, keys and the audit log, as values. What may be done to them is in ``directory``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from flatfee.server.keys import KeyKind
from flatfee.wire import Billing, ReceiptDetail

Scalar = str | int | float | bool | None


class Denied(Exception):
    """The directory does not do what was asked, and has changed nothing. The message names value and cure."""


class NoSuch(Denied):
    """What was named does not exist."""


class Exists(Denied):
    """What was to be made exists already."""


class NotAllowed(Denied):
    """What was asked would break a rule, such as that the file decides on what it names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filed:
    """What the configuration file said of an account when it was last read."""

    plan: str
    billing: Billing
    billing_day: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Who pays. ``filed`` is ``None`` unless the configuration file names the account."""

    name: str
    plan: str
    billing: Billing
    billing_day: int
    created_at: float
    filed: Filed | None = None

    @property
    def from_file(self) -> bool:
        """Whether the configuration file names the account."""
        return self.filed is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """What requests are for. ``receipts`` is ``None`` where the configuration decides."""

    account: str
    name: str
    created_at: float
    receipts: ReceiptDetail | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key as it is kept: what it is found by and what people may see, never the secret.

    A project key has account and project, a team key an account only, an admin key neither.
    Times are seconds since the epoch. ``source`` is ``file`` if the configuration file brought it.
    """

    id: str
    digest: bytes = field(repr=False)
    kind: KeyKind
    account: str | None
    project: str | None
    name: str
    last4: str
    models: frozenset[str] | None
    created_at: float
    expires_at: float | None
    source: Literal["file", "api"]
    revoked_at: float | None = None
    last_used_at: float | None = None

    def state(self, now: float) -> Literal["active", "expired", "revoked"]:
        """Tell whether the key works at the moment ``now``, and if not, why."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAuditEntry:
    """Who did what to whom: never a secret.

    ``actor`` is a key's id, ``env:NAME``, ``local:USER``, ``file`` or ``signal``.
    """

    at: float
    actor: str
    action: str
    subject: str
    details: Mapping[str, Scalar]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry(NewAuditEntry):
    """An entry with its number in the log."""

    id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A piece of a list: at most ``limit`` entries after the one that ``after`` names."""

    limit: int = 20
    after: str | None = None
