"""A coroutine that is begun where it is made, for the many that never have to wait. No time limits."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from functools import partial
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")


class Begun(Generic[_T]):
    """A coroutine that has run up to where it must wait, or to its end.

    If it is ``over``, ``value`` is what it returned; else it is to be awaited at once, before anything else is.
    What it raised before it had to wait is raised where it is made.
    """

    __slots__ = ("_coroutine", "_waits_for", "over", "value")

    value: _T

    def __init__(self, coroutine: Coroutine[Any, Any, _T]) -> None:
        self._coroutine = coroutine
        self.over = False
        try:
            self._waits_for = coroutine.send(None)
        except StopIteration as end:
            self.over, self.value = True, end.value

    def __await__(self) -> Generator[Any, Any, _T]:
        """Go on with it."""
        while True:
            try:
                came = yield self._waits_for
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is the coroutine's
                step = partial(self._coroutine.throw, error)
            else:
                step = partial(self._coroutine.send, came)
            try:
                self._waits_for = step()
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]  # what a coroutine returns is not told in types
