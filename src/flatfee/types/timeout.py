"""Time limits of one try, in seconds. Knows no HTTP library."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from flatfee.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Timeout:
    """Limits of the phases of one try; ``None`` is no limit.

    ``connect`` to open a connection, ``read`` between two pieces of the answer, ``write`` between
    two pieces of the request, ``pool`` to get a free connection.

    Two more are for streams. ``first_token`` is from the start of the try until the model says
    something, ``idle`` the time then spent waiting between two tokens. Only tokens count (text,
    reasoning, tool calls, a finish reason): a comment that keeps the connection alive satisfies
    ``read``, and neither of these.
    """

    connect: float | None = 5.0
    read: float | None = 600.0
    write: float | None = 600.0
    pool: float | None = 600.0
    first_token: float | None = 600.0
    idle: float | None = 120.0

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (number and value > 0):
                raise ConfigurationError(
                    f"timeout: {each.name} is {value!r}; use seconds above 0, or None for no limit.",
                )

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
            return cls(value, value, value, value, value, value)
        try:
            return cls(value.connect, value.read, value.write, value.pool, value.read, value.read)
        except AttributeError:
            raise ConfigurationError(
                f"timeout is {value!r}; use seconds, None for no limit, or flatfee.Timeout(...).",
            ) from None
