"""When a failed try is tried again, and after how long. Sans-IO: sleep, chance and clock are passed in.

The rule is the contract's: ``wire.retryable`` has been asked already and stands in
``APIStatusError.retryable``. Only tries that gave no answer are repeated: once a stream has
started, its failure is the caller's to see.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from flatfee.errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    ConfigurationError,
)
from flatfee.types.sentinel import absent

if TYPE_CHECKING:
    from tenacity import AsyncRetrying, RetryCallState, Retrying

DEFAULT_MAX_RETRIES: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """What a client does after a failed try. Times are in seconds.

    ``max_retries`` is how often a try is repeated at most; 0 sends one request and no more. The wait doubles from
    ``first_wait`` to ``longest_wait``, less up to a quarter by chance, unless the gateway tells how long to wait.
    Asked to wait for more than ``longest_retry_after``, the client raises instead of waiting.

    Raises:
        ConfigurationError: names the bad value and the cure.
    """

    max_retries: int = DEFAULT_MAX_RETRIES
    first_wait: float = 0.5
    longest_wait: float = 8.0
    longest_retry_after: float = 60.0

    def __post_init__(self) -> None:
        retries: object = self.max_retries
        if not isinstance(retries, int) or isinstance(retries, bool) or retries < 0:
            raise ConfigurationError(f"max_retries is {retries!r}; use a whole number, 0 to never try again.")
        for name in ("first_wait", "longest_wait", "longest_retry_after"):
            value: Any = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not (number and 0 <= value < math.inf):
                raise ConfigurationError(f"{name} is {value!r}; use seconds, 0 or more.")
        if self.first_wait > self.longest_wait:
            raise ConfigurationError(
                f"first_wait is {self.first_wait!r}, longer than longest_wait, {self.longest_wait!r}; make it shorter."
            )

    @classmethod
    def of(cls, retry: object, max_retries: object, base: RetryPolicy | None = None) -> RetryPolicy:
        """Read the arguments ``retry`` and ``max_retries``; what neither tells is as in ``base``.

        Raises:
            ConfigurationError: both are given, or one is of the wrong kind.
        """
        short, whole = not absent(max_retries), retry is not None and not absent(retry)
        if short and whole:
            raise ConfigurationError("Both retry and max_retries are given; use RetryPolicy(max_retries=...) alone.")
        if not whole:
            base = base or cls()
            return replace(base, max_retries=max_retries) if short else base  # type: ignore[arg-type]  # checked there
        if not isinstance(retry, cls):
            raise ConfigurationError(f"retry is {retry!r}; use flatfee.RetryPolicy(...).")
        return retry

    def repeats(self, error: BaseException, *, keyed: bool = True) -> bool:
        """Tell whether a failed try is one to repeat.

        Without an idempotency key (``keyed``), a try that may have reached the gateway is not.
        """
        if isinstance(error, APIStatusError):
            return error.retryable and (error.retry_after or 0.0) <= self.longest_retry_after
        if not isinstance(error, APIConnectionError):
            return False
        return error.retryable and (keyed or error.sent is False)

    def wait_before(self, retry: int, error: BaseException | None, chance: float) -> float:
        """Return the seconds to wait before retry number ``retry`` (from 1).

        What the gateway asks for counts; else the wait doubles, less up to a quarter (``chance`` is
        in 0–1), so that clients which failed together do not return together.
        """
        asked = error.retry_after if isinstance(error, APIStatusError) else None
        if asked:  # 0, or a date that has passed, tells nothing
            return asked
        # The exponent is bounded: a caller may allow more retries than a float has powers of two.
        return min(self.longest_wait, self.first_wait * 2.0 ** min(retry - 1, 60)) * (1.0 - chance / 4.0)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Repetition:
    """Makes tenacity's controllers; one for each call, since a controller holds the call's state.

    ``keyed`` tells that the call has an idempotency key, ``spent`` when it is not to be repeated any more.
    """

    policy: RetryPolicy
    chance: Callable[[], float]
    budget: Budget | None = None
    keyed: bool = True
    spent: Callable[[], bool] = bool

    def sync(self, sleep: Callable[[float], None]) -> Retrying:
        """Return the controller for blocking calls."""
        from tenacity import Retrying  # it brings asyncio, and most processes never retry

        return Retrying(sleep=sleep, **self._rules())

    def asynchronous(self, sleep: Callable[[float], Awaitable[None]]) -> AsyncRetrying:
        """Return the controller for coroutines."""
        from tenacity import AsyncRetrying

        return AsyncRetrying(sleep=sleep, **self._rules())

    def repeats(self, error: BaseException) -> bool:
        """Tell whether a try that failed so is to be repeated, if there is time."""
        return self.policy.max_retries > 0 and not self.spent() and self.policy.repeats(error, keyed=self.keyed)

    def _rules(self) -> dict[str, Any]:
        return {"stop": self._stop, "wait": self._wait, "retry": self._retry, "reraise": True}

    def _retry(self, state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        return error is not None and self.repeats(error)

    def _stop(self, state: RetryCallState) -> bool:
        spent = self.budget is not None and self.budget.spent_by_waiting(state)
        return spent or state.attempt_number > self.policy.max_retries

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        return self.policy.wait_before(state.attempt_number, error, self.chance())
