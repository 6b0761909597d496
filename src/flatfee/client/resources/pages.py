"""Lists that go on over several pages. Iterating over a page goes on into the pages after it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, TypeVar

from flatfee.client.exchange import Call, Reply, reader
from flatfee.client.resources.core import AsyncCore, Core
from flatfee.types.base import ListPage
from flatfee.types.tries import Try

T = TypeVar("T")


def page_reader(item: type[T]) -> Callable[[Reply], ListPage[T]]:
    """Return the function that reads a page of ``item``s. The page's class is made when it is first needed."""
    return partial(_read, item)


def _read(item: type[T], reply: Reply) -> ListPage[T]:
    return reader(ListPage[item])(reply)  # type: ignore[valid-type]  # a class that is known when it is asked for


@dataclass(frozen=True, slots=True)
class PageCall(Generic[T]):
    """A call that answers a page; ``cursor`` names an item, for the page that begins after it."""

    call: Call[ListPage[T]]
    cursor: Callable[[T], str | None]

    def after(self, page: ListPage[T]) -> PageCall[T] | None:
        """Return the call of the page after ``page``; ``None`` if that was the last."""
        cursor = self.cursor(page.data[-1]) if page.has_more and page.data else None
        if cursor is None:
            return None
        return replace(self, call=replace(self.call, query={**self.call.query, "after": cursor}))


class _Page(Generic[T]):
    """What both kinds of page show."""

    def __init__(self, asked: PageCall[T], page: ListPage[T]) -> None:
        self.data: list[T] = page.data
        """The items of this page alone."""
        self.object = page.object
        self._origin = page._origin
        self._next = asked.after(page)

    @property
    def has_more(self) -> bool:
        """Whether a page comes after this one."""
        return self._next is not None

    @property
    def _request_id(self) -> str | None:
        return self._origin.request_id

    @property
    def tries(self) -> tuple[Try, ...]:
        """Every request that was sent for this page; empty if the first one brought it."""
        return self._origin.tries

    def __repr__(self) -> str:
        return f"{type(self).__name__}(items={len(self.data)}, has_more={self.has_more})"


class Page(_Page[T]):
    """One page of a list."""

    def __init__(self, core: Core, asked: PageCall[T], page: ListPage[T]) -> None:
        self._core = core
        super().__init__(asked, page)

    @classmethod
    def ask(cls, core: Core, asked: PageCall[T]) -> Page[T]:
        """Ask for a page; those after it are asked for plainly."""

        def read(reply: Reply) -> Page[T]:
            return Page(core.plain, asked, asked.call.read(reply))

        return core.send(asked.call.reading(read))

    def next_page(self) -> Page[T] | None:
        """Ask for the page after this one; ``None`` if this is the last."""
        return Page.ask(self._core, self._next) if self._next else None

    def __iter__(self) -> Iterator[T]:
        page: Page[T] | None = self
        while page is not None:
            yield from page.data
            page = page.next_page()


class AsyncPage(_Page[T]):
    """One page of a list."""

    def __init__(self, core: AsyncCore, asked: PageCall[T], page: ListPage[T]) -> None:
        self._core = core
        super().__init__(asked, page)

    async def next_page(self) -> AsyncPage[T] | None:
        """Ask for the page after this one; ``None`` if this is the last."""
        return await AsyncPages(self._core, self._next) if self._next else None

    async def __aiter__(self) -> AsyncIterator[T]:
        page: AsyncPage[T] | None = self
        while page is not None:
            for item in page.data:
                yield item
            page = await page.next_page()


class AsyncPages(Generic[T]):
    """A list that was not asked for yet: ``await`` gives its first page, ``async for`` every item."""

    def __init__(self, core: AsyncCore, asked: PageCall[T]) -> None:
        self._core = core
        self._asked = asked

    def __await__(self) -> Generator[Any, Any, AsyncPage[T]]:
        return self._first().__await__()

    async def __aiter__(self) -> AsyncIterator[T]:
        async for item in await self._first():
            yield item

    async def _first(self) -> AsyncPage[T]:
        return await self._core.send(self._asked.call.reading(self._read))

    def _read(self, reply: Reply) -> AsyncPage[T]:
        return AsyncPage(self._core.plain, self._asked, self._asked.call.read(reply))
