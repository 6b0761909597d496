"""When a failed try is tried again, and after how long. Sans-IO: sleep, chance and clock are passed in.

The rule is the contract's: ``wire.retryable`` has been asked already and stands in
``APIStatusError.retryable``. Only tries that gave no answer are repeated: once a stream has
started, its failure is the caller's to see.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from flatfee.errors import APIConnectionError, APIStatusError, APITimeoutError, BillingError, FallbackExhausted

if TYPE_CHECKING:
    from tenacity import AsyncRetrying, RetryCallState, Retrying

DEFAULT_MAX_RETRIES: Final = 2
LONGEST_RETRY_AFTER: Final = 60.0
"""Seconds. Asked to wait longer, the client raises: the caller knows better what to do meanwhile."""
FIRST_WAIT: Final = 0.5
LONGEST_WAIT: Final = 8.0


def worth_retrying(error: BaseException) -> bool:
    """Tell whether a failed try should be repeated.

    Spent fair-use and an exhausted fallback never are, whatever a header says: another try
    would only meet the same end, and for the latter ask every provider once more.
    """
    if isinstance(error, BillingError | FallbackExhausted):
        return False
    if isinstance(error, APIStatusError):
        return error.retryable and (error.retry_after or 0.0) <= LONGEST_RETRY_AFTER
    return isinstance(error, APIConnectionError) and error.retryable


def wait_before(retry: int, error: BaseException | None, chance: float) -> float:
    """Return the seconds to wait before retry number ``retry`` (from 1).

    What the gateway asks for counts; else the wait doubles from half a second to eight, less up to
    a quarter (``chance`` is in 0–1), so that clients which failed together do not return together.
    """
    asked = error.retry_after if isinstance(error, APIStatusError) else None
    if asked is not None:
        return asked
    # The exponent is bounded: a caller may allow more retries than a float has powers of two.
    return min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(retry - 1, 10)) * (1.0 - chance / 4.0)


@dataclass(frozen=True, slots=True)
class Budget:
    """The time a call may take: ``seconds``, until ``end``, by ``clock``, whose readings are in seconds."""

    seconds: float
    end: float
    clock: Callable[[], float]

    @classmethod
    def of(cls, seconds: float | None, clock: Callable[[], float]) -> Budget | None:
        """Return what begins now and lasts for ``seconds``; ``None`` for a call that may take any time."""
        return None if seconds is None else cls(seconds, clock() + seconds, clock)

    def left(self) -> float:
        """Return the seconds that are left; not above 0 when it is over."""
        return self.end - self.clock()

    def passed(self) -> APITimeoutError:
        """Return the error for a call whose time is over."""
        error = APITimeoutError(f"The deadline of {self.seconds:g} seconds passed before the answer was whole.")
        error.retryable = False
        return error

    def spent_by_waiting(self, state: RetryCallState) -> bool:
        """Tell whether nothing would be left after the wait before the next try."""
        return state.upcoming_sleep >= self.left()


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Makes tenacity's controllers; one for each call, since a controller holds the call's state."""

    max_retries: int
    chance: Callable[[], float]
    budget: Budget | None = None

    def sync(self, sleep: Callable[[float], None]) -> Retrying:
        """Return the controller for blocking calls."""
        from tenacity import Retrying  # it brings asyncio, and most processes never retry

        return Retrying(sleep=sleep, **self._rules())

    def asynchronous(self, sleep: Callable[[float], Awaitable[None]]) -> AsyncRetrying:
        """Return the controller for coroutines."""
        from tenacity import AsyncRetrying

        return AsyncRetrying(sleep=sleep, **self._rules())

    def _rules(self) -> dict[str, Any]:
        from tenacity import retry_if_exception

        return {
            "stop": self._stop,
            "wait": self._wait,
            "retry": retry_if_exception(worth_retrying),
            "reraise": True,
        }

    def _stop(self, state: RetryCallState) -> bool:
        spent = self.budget is not None and self.budget.spent_by_waiting(state)
        return spent or state.attempt_number > self.max_retries

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        return wait_before(state.attempt_number, error, self.chance())
