"""Time limits of one try, in seconds. Knows no HTTP library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

from flatfee.errors import ConfigurationError
from flatfee.types.sentinel import NOT_GIVEN, NotGiven, absent

LONGEST: Final = 1e9
"""Seconds. Sockets cannot count much further, and fail in the middle of a call when they are to."""
_USUAL: Final = {"connect": 5.0, "read": 600.0, "write": 600.0, "pool": 600.0, "first_token": 600.0, "idle": 120.0}
_TOLD_BY_READ: Final = ("first_token", "idle")
"""Limits that ``httpx`` does not have; its ``read`` says how patient its user is."""


class TimeLimits(Protocol):
    """What is read of an ``httpx.Timeout``."""

    @property
    def connect(self) -> float | None:
        """Seconds to open a connection."""
        ...

    @property
    def read(self) -> float | None:
        """Seconds between two pieces of the answer."""
        ...

    @property
    def write(self) -> float | None:
        """Seconds between two pieces of the request."""
        ...

    @property
    def pool(self) -> float | None:
        """Seconds to get a free connection."""
        ...


@dataclass(frozen=True, slots=True, init=False)
class Timeout:
    """Limits of the phases of one try; ``None`` is no limit.

    ``Timeout(60.0, connect=5.0)`` is 60 seconds for all but one, as in ``httpx``; ``Timeout(connect=2.0)``
    leaves the others as they usually are.

    ``connect`` to open a connection, ``read`` between two pieces of the answer, ``write`` between
    two pieces of the request, ``pool`` to get a free connection.

    Two more are for streams. ``first_token`` is from the start of the try until the model says
    something, ``idle`` the time then spent waiting between two tokens. Only tokens count (text,
    reasoning, tool calls, a finish reason): a comment that keeps the connection alive satisfies
    ``read``, and neither of these.
    """

    connect: float | None
    read: float | None
    write: float | None
    pool: float | None
    first_token: float | None
    idle: float | None

    def __init__(
        self,
        timeout: float | NotGiven | None = NOT_GIVEN,
        *,
        connect: float | NotGiven | None = NOT_GIVEN,
        read: float | NotGiven | None = NOT_GIVEN,
        write: float | NotGiven | None = NOT_GIVEN,
        pool: float | NotGiven | None = NOT_GIVEN,
        first_token: float | NotGiven | None = NOT_GIVEN,
        idle: float | NotGiven | None = NOT_GIVEN,
    ) -> None:
        given = {"connect": connect, "read": read, "write": write, "pool": pool}
        given |= {"first_token": first_token, "idle": idle}
        usual: dict[str, Any] = _USUAL
        if not absent(timeout):
            usual = {
                **dict.fromkeys(_USUAL, timeout),
                **dict.fromkeys(_TOLD_BY_READ, timeout if absent(read) else read),
            }
        for name, value in given.items():
            object.__setattr__(self, name, _checked(name, usual[name] if absent(value) else value))

    @classmethod
    def of(cls, value: Any) -> Timeout:
        """Read a timeout: seconds for every limit, ``None`` for none, or an object with ``httpx``'s four limits.

        The ``read`` of such an object counts for ``first_token`` and ``idle`` as well.

        Raises:
            ConfigurationError: ``value`` is none of these.
        """
        if isinstance(value, cls):
            return value
        if value is None or isinstance(value, int | float):
            return cls(value)
        try:
            return cls(value.read, connect=value.connect, write=value.write, pool=value.pool)
        except AttributeError:
            raise ConfigurationError(
                f"timeout is {value!r}; use seconds, None for no limit, or flatfee.Timeout(...).",
            ) from None


TimeoutParam: TypeAlias = float | Timeout | TimeLimits | None
"""What a ``timeout`` may be: seconds for every limit, ``None`` for none, ours, or one of ``httpx``'s."""


def _checked(name: str, value: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is not None and not (number and 0 < value <= LONGEST):
        raise ConfigurationError(f"timeout: {name} is {value!r}; use seconds above 0, or None for no limit.")
    return value
