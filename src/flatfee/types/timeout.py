"""Time limits of one try, in seconds. Knows no HTTP library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flatfee.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Timeout:
    """Limits of the phases of one try; ``None`` is no limit.

    ``connect`` to open a connection, ``read`` between two pieces of the answer, ``write`` between
    two pieces of the request, ``pool`` to get a free connection.
    """

    connect: float | None = 5.0
    read: float | None = 600.0
    write: float | None = 600.0
    pool: float | None = 600.0

    def __post_init__(self) -> None:
        for name in ("connect", "read", "write", "pool"):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (number and value > 0):
                raise ConfigurationError(
                    f"timeout: {name} is {value!r}; use seconds above 0, or None for no limit.",
                )

    def within(self, seconds: float, grace: float = 0.0) -> Timeout:
        """Return these limits, none above ``seconds``; ``grace`` more for the answer to arrive."""
        return Timeout(
            connect=_least(self.connect, seconds),
            read=_least(self.read, seconds + grace),
            write=_least(self.write, seconds),
            pool=_least(self.pool, seconds),
        )

    @classmethod
    def of(cls, value: Any) -> Timeout:
        """Read a timeout: seconds for every phase, ``None`` for no limit, or an object with the four limits.

        Raises:
            ConfigurationError: ``value`` is none of these.
        """
        if isinstance(value, cls):
            return value
        if value is None or isinstance(value, int | float):
            return cls(value, value, value, value)
        try:
            return cls(value.connect, value.read, value.write, value.pool)
        except AttributeError:
            raise ConfigurationError(
                f"timeout is {value!r}; use seconds, None for no limit, or flatfee.Timeout(...).",
            ) from None


def _least(limit: float | None, seconds: float) -> float:
    return seconds if limit is None else min(limit, seconds)
