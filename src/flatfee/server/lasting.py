"""Work that goes on when whoever waits for it is cancelled: begun at once, within the task that wants it.

A task of its own, waited for behind a shield, promises the same; but it takes three rounds of the loop, where most
such work waits for nothing at all, or for one commit. Here it becomes a task only when its waiter is cancelled.
It must not ask which task it runs in, as ``asyncio.timeout`` does: that would be another one from then on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from types import coroutine
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")


class Lasting(Generic[_T]):
    """A coroutine that ends once, however often it is awaited: each time with the same result or error.

    One may await it at a time, and another after that one was cancelled.
    """

    __slots__ = ("_error", "_rest", "_result", "_work")

    def __init__(self, work: Coroutine[Any, Any, _T]) -> None:
        self._work: Coroutine[Any, Any, _T] | None = work
        self._rest: asyncio.Task[_T] | None = None
        self._error: BaseException | None = None
        self._result: _T

    def __await__(self) -> Generator[Any, None, _T]:
        """Wait for its end; whoever is cancelled meanwhile leaves the rest of it to a task."""
        if self._work is None:
            return (yield from self._ended())
        work, self._work = self._work, None
        try:
            awaited = work.send(None)
            while True:
                try:
                    yield from _until_done(awaited)
                except asyncio.CancelledError:
                    self._rest = asyncio.ensure_future(_go_on(work, awaited))
                    self._rest.add_done_callback(_noticed)
                    raise
                awaited = work.send(None)
        except StopIteration as end:
            self._result = end.value
            return self._result
        except BaseException as error:
            self._error = error
            raise

    def _ended(self) -> Generator[Any, None, _T]:
        if self._rest is not None:
            return (yield from asyncio.shield(self._rest).__await__())
        if self._error is not None:
            raise self._error
        return self._result


def _noticed(rest: asyncio.Task[Any]) -> None:
    """Look at an error, so that the loop does not complain of it where nobody asks any more."""
    if not rest.cancelled():
        rest.exception()


@coroutine
def _go_on(work: Coroutine[Any, Any, _T], awaited: Any) -> Generator[Any, None, _T]:
    """Do the rest of work that waits for something."""
    try:
        while True:
            try:
                yield from _until_done(awaited)
            except BaseException as error:  # noqa: BLE001 - what is thrown into its task is for the work
                awaited = work.throw(error)
            else:
                awaited = work.send(None)
    except StopIteration as end:
        value: _T = end.value
        return value


def _until_done(awaited: Any) -> Generator[Any, None, None]:
    """Wait until what a coroutine waits for is done. That is not cancelled with the one who waits here."""
    if awaited is None:  # it waits for the loop's next round
        yield
        return
    awaited._asyncio_future_blocking = False
    woken: asyncio.Future[None] = awaited.get_loop().create_future()

    def wake(_: object) -> None:
        if not woken.done():
            woken.set_result(None)

    awaited.add_done_callback(wake)
    yield from woken
