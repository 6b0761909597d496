"""One try of a call, as an answer, a stream or an exception lists it. A value, and no more."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One request that a client sent for a call. Times are in seconds.

    ``number`` counts from 1. ``status`` is the answer's, ``None`` where none came; ``code`` the error's. ``error`` is
    the name of the exception's class, ``None`` for the try that succeeded. ``waited`` is the time since the try
    before ended, or since the call began; ``seconds`` is how long the try itself took, up to a stream's start.
    """

    number: int
    status: int | None = None
    code: str | None = None
    error: str | None = None
    request_id: str | None = None
    waited: float = 0.0
    seconds: float = 0.0
