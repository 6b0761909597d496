"""Lists the tries of one call. Sans-IO: the clock is passed in. Made when the first try has failed, or had to wait."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from flatfee.errors import APIError, APIStatusError
from flatfee.types.tries import Try
from flatfee.wire import Header


class Tries:
    """The tries of a call so far, each with the time it took and the wait before it."""

    __slots__ = ("_began", "_clock", "_listed", "_waited")

    def __init__(self, clock: Callable[[], float], began: float) -> None:
        self._clock = clock
        self._began = began
        self._waited = 0.0
        self._listed: tuple[Try, ...] = ()

    def listed(self) -> tuple[Try, ...]:
        """Return what is listed: nothing, if the first try succeeded."""
        return self._listed

    def again(self) -> None:
        """Take note that the wait before a try is over; a first try that waited for nothing needs none."""
        now = self._clock()
        self._waited, self._began = self._waited + now - self._began, now

    def failed(self, error: APIError) -> None:
        """List a try that failed."""
        status = error.status_code if isinstance(error, APIStatusError) else None
        self._list(status, error.code, type(error).__name__, error.request_id, self._clock())

    def succeeded(self, status: int, headers: Mapping[str, str]) -> None:
        """List the try that succeeded, if another one failed before it."""
        if self._listed:
            request_id = headers.get(Header.REQUEST_ID) or headers.get(Header.X_REQUEST_ID)
            self._list(status, None, None, request_id, self._clock())

    def _list(
        self, status: int | None, code: str | None, error: str | None, request_id: str | None, now: float
    ) -> None:
        done = Try(
            number=len(self._listed) + 1,
            status=status,
            code=code,
            error=error,
            request_id=request_id,
            waited=self._waited,
            seconds=now - self._began,
        )
        self._listed = (*self._listed, done)
        self._began, self._waited = now, 0.0
