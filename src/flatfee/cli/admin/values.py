"""Lengths and moments as people write them: ``24h``, ``30d``, ``2027-01-31``. Pure; the present is handed in."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_LENGTH: Final = re.compile(r"([0-9]{1,9})([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class NotAValue(Exception):
    """What was written is neither a length nor a moment."""


def seconds(text: str) -> int:
    """Return a length in seconds; ``0`` needs no unit.

    Raises:
        NotAValue: it is not a number with a unit.
    """
    length = _LENGTH.fullmatch(text)
    if length is None and text != "0":
        message = f"{text!r} is not a length of time; write one such as 90s, 30m, 24h or 7d."
        raise NotAValue(message)
    return int(length[1]) * _SECONDS[length[2]] if length else 0


def since(text: str, now: datetime) -> float:
    """Return a moment in seconds since the epoch; a length counts back from ``now``.

    Raises:
        NotAValue: it is neither a length nor a time.
    """
    if _LENGTH.fullmatch(text):
        return now.timestamp() - seconds(text)
    return datetime.fromisoformat(moment(text, now)).timestamp()


def moment(text: str, now: datetime) -> str:
    """Return a moment in RFC 3339, UTC; a length counts from ``now``, and a time without a zone is in UTC.

    Raises:
        NotAValue: it is neither a length nor a time.
    """
    try:
        if _LENGTH.fullmatch(text):
            at = now + timedelta(seconds=seconds(text))
        else:
            at = datetime.fromisoformat(text)
            at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        message = f"{text!r} is not a time; write a length such as 30d, or one such as 2027-01-31T12:00:00Z."
        raise NotAValue(message) from error
    return at.isoformat().replace("+00:00", "Z")
