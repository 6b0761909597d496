"""The directory's half of a store: the same for every store that runs work against an ``AdminBook``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from flatfee.server.clocks import Clocks
from flatfee.server.store import directory
from flatfee.server.store.accounts import Account, AuditEntry, Key, Page, Project
from flatfee.server.store.administration import AdminBook, Command, administer
from flatfee.server.store.records import NewAccount

_T = TypeVar("_T")


class SharedDirectory(ABC):
    """Everything of ``Directory`` but the hot look-up of a key."""

    _clocks: Clocks

    def now(self) -> float:
        return self._clocks.wall()

    @abstractmethod
    def _write(self, work: Callable[[AdminBook], _T]) -> Awaitable[_T]:
        """Run ``work`` as one transaction."""

    @abstractmethod
    def _read(self, work: Callable[[AdminBook], _T]) -> Awaitable[_T]:
        """Run ``work``, which changes nothing."""

    async def provision(self, accounts: Sequence[NewAccount]) -> None:
        await self._write(lambda book: directory.provision(book, accounts, self.now()))

    async def administer(self, actor: str, command: Command[_T]) -> _T:
        return await self._write(lambda book: administer(book, actor, command, self._clocks.now()))

    async def used(self, key_id: str) -> None:
        await self._write(lambda book: book.used(key_id, self.now()))

    async def account(self, name: str) -> Account | None:
        return await self._read(lambda book: book.account(name))

    async def accounts(self, page: Page) -> tuple[list[Account], bool]:
        return _cut(await self._read(lambda book: book.accounts(page)), page)

    async def project(self, account: str, name: str) -> Project | None:
        return await self._read(lambda book: book.project(account, name))

    async def projects(self, account: str, page: Page) -> tuple[list[Project], bool]:
        return _cut(await self._read(lambda book: book.projects(account, page)), page)

    async def key(self, key_id: str) -> Key | None:
        return await self._read(lambda book: book.key(key_id))

    async def keys(self, account: str | None, project: str | None, page: Page) -> tuple[list[Key], bool]:
        return _cut(await self._read(lambda book: book.keys(account, project, page)), page)

    async def audit(self, page: Page) -> tuple[list[AuditEntry], bool]:
        return _cut(await self._read(lambda book: book.audit(page)), page)


def _cut(found: list[_T], page: Page) -> tuple[list[_T], bool]:
    return found[: page.limit], len(found) > page.limit
