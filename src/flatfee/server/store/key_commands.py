"""What an administrator may do with keys. A secret was made and shown before; only its digest comes here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from flatfee.server.clocks import Moment
from flatfee.server.keys import shown
from flatfee.server.store.accounts import Exists, Key, NoSuch, NotAllowed, Scalar
from flatfee.server.store.commands import UNCHANGED, AdminBook, Done, Unchanged, changed, known_account, known_project
from flatfee.server.store.directory import difference
from flatfee.server.store.records import NewKey


@dataclass(frozen=True, slots=True, kw_only=True)
class AddKey:
    """Keep a new key of a project, of an account (a team key), or of neither (an admin key)."""

    action: ClassVar[str] = "key.create"
    key: NewKey
    account: str | None = None
    project: str | None = None

    def apply(self, book: AdminBook, now: Moment) -> Done[Key]:
        """Keep it, if its owner exists."""
        if self.account is not None and self.project is not None:
            known_project(book, self.account, self.project)
        elif self.account is not None:
            known_account(book, self.account)
        if book.key_of(self.key.digest) is not None:
            raise Exists("This secret is a key already; make another one.")
        new = self.key
        key = Key(
            id=new.id,
            digest=new.digest,
            kind=new.kind,
            account=self.account,
            project=self.project,
            name=new.name,
            last4=new.last4,
            models=new.models,
            created_at=now.wall,
            expires_at=new.expires_at,
            source="api",
        )
        book.put_key(key)
        return Done(result=key, subject=key.id, details=_about(key))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeKey:
    """Change what is given of a key; ``models`` and ``expires_at`` may become ``None``: no limit."""

    action: ClassVar[str] = "key.change"
    id: str
    name: str | Unchanged = UNCHANGED
    models: frozenset[str] | Unchanged | None = UNCHANGED
    expires_at: float | Unchanged | None = UNCHANGED

    def apply(self, book: AdminBook, now: Moment) -> Done[Key]:
        """Change it, unless it has ended or belongs to the configuration file."""
        before = _key_of_ours(book, self.id)
        _refuse_ended(before, now)
        after = changed(before, name=self.name, models=self.models, expires_at=self.expires_at)
        book.put_key(after)
        return Done(result=after, subject=self.id, details=difference(before, after, ("name", "models", "expires_at")))


@dataclass(frozen=True, slots=True, kw_only=True)
class RotateKey:
    """Put a new secret in a key's place, which goes on working for ``overlap`` seconds.

    The new key has the owner, name, scope and expiry of the old one, so it never may more.
    """

    action: ClassVar[str] = "key.rotate"
    id: str
    new_id: str
    digest: bytes
    last4: str
    overlap: float

    def apply(self, book: AdminBook, now: Moment) -> Done[Key]:
        """Keep the new key, and let the old one end with the overlap or with its own expiry."""
        old = _key_of_ours(book, self.id)
        _refuse_ended(old, now)
        ends = now.wall + self.overlap
        book.put_key(replace(old, expires_at=ends if old.expires_at is None else min(ends, old.expires_at)))
        new = replace(old, id=self.new_id, digest=self.digest, last4=self.last4, created_at=now.wall, last_used_at=None)
        book.put_key(new)
        return Done(result=new, subject=self.id, details={"new": new.id, "overlap_seconds": self.overlap})


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeKey:
    """End a key for good. Revoking again changes nothing."""

    action: ClassVar[str] = "key.revoke"
    id: str

    def apply(self, book: AdminBook, now: Moment) -> Done[Key]:
        """End it, unless it belongs to the configuration file."""
        key = _key_of_ours(book, self.id)
        if key.revoked_at is None:
            key = replace(key, revoked_at=now.wall)
            book.put_key(key)
        return Done(result=key, subject=self.id, details=_about(key))


def no_key(key_id: str) -> NoSuch:
    """Return what is told of a key that is not there."""
    return NoSuch(f"There is no key {shown(key_id, 40)}; list them with GET /admin/v1/keys.")


def _key_of_ours(book: AdminBook, key_id: str) -> Key:
    key = book.key(key_id)
    if key is None:
        raise no_key(key_id)
    if key.source == "file":
        raise NotAllowed(
            f"The key {key_id} is named by the configuration file; change or remove it there, and restart."
        )
    return key


def _refuse_ended(key: Key, now: Moment) -> None:
    """Let no key come back: one that was rotated away ended by its expiry."""
    state = key.state(now.wall)
    if state != "active":
        ended = "was revoked" if state == "revoked" else "has expired"
        raise NotAllowed(f"The key {key.id} {ended}; make a new one.")


def _about(key: Key) -> dict[str, Scalar]:
    return {"kind": key.kind.name.lower(), "account": key.account, "project": key.project, "name": key.name}
