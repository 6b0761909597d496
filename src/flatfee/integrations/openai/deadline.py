"""One budget of seconds over all tries of a call that openai-python makes and repeats.

The budget is the header ``x-flatfee-deadline-ms`` itself: who sets it, for a client or for one call,
has a deadline. Each try sends on what is left of it, and waits no longer. A stream's budget ends when
its response begins; from there on the gateway keeps it.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from time import monotonic
from typing import Any

from flatfee.client.limits import ANSWER_GRACE
from flatfee.errors import APITimeoutError
from flatfee.integrations.openai.errors import both
from flatfee.types.sentinel import absent
from flatfee.wire import Header


@dataclass(frozen=True, slots=True)
class Budget:
    """``seconds`` from ``began`` on, on the monotonic clock."""

    seconds: float
    began: float

    def left(self) -> float:
        """Return the seconds that remain, below 0 when it is over."""
        return self.began + self.seconds - monotonic()

    def applied(self, options: Any, usual: Any) -> Any:
        """Return a try's options within what is left; ``usual`` is the client's own timeout.

        Raises:
            APITimeoutError: nothing is left.
        """
        left = self.left()
        if left <= 0:
            raise both(APITimeoutError(f"The deadline of {self.seconds:g} seconds passed before an answer came."))
        headers = {name: value for name, value in _mapping(options.headers).items() if name.lower() != _NAME}
        options.headers = {**headers, _NAME: str(math.ceil(left * 1000))}
        options.timeout = _within(usual if absent(options.timeout) else options.timeout, left + ANSWER_GRACE)
        return options


_NAME = Header.DEADLINE_MS
_budget: ContextVar[Budget | None] = ContextVar("flatfee_openai_deadline", default=None)


def current() -> Budget | None:
    """Return the budget of the call that this context makes."""
    return _budget.get()


@contextmanager
def budgeted(*headers: object) -> Generator[None]:
    """Run one call, with the budget that the first of ``headers`` names, or without any."""
    token = _budget.set(_read(*headers))
    try:
        yield
    finally:
        _budget.reset(token)


def _read(*headers: object) -> Budget | None:
    for given in headers:
        for name, value in _mapping(given).items():
            if name.lower() == _NAME and isinstance(value, str) and value.isdigit():
                return Budget(int(value) / 1000, monotonic())
    return None


def _mapping(headers: object) -> Mapping[str, Any]:
    return headers if isinstance(headers, Mapping) else {}


def _within(timeout: Any, seconds: float) -> Any:
    """Return a timeout of either HTTP library, or seconds, none of it above ``seconds``."""
    if timeout is None:
        return seconds
    if isinstance(timeout, int | float):
        return min(timeout, seconds)
    limits = {name: seconds if limit is None else min(limit, seconds) for name, limit in timeout.as_dict().items()}
    return type(timeout)(**limits)
