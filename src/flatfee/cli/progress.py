"""How far long work has come, on standard error: on a terminal only, so that logs stay free of it."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Final, Self

_EVERY: Final = 0.5


class Progress:
    """One line that is written over, at most twice a second."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._shown = time.monotonic()
        self._wide = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._wide:
            sys.stderr.write("\r" + " " * self._wide + "\r")
            sys.stderr.flush()

    def at(self, done: int, share: float | None = None) -> None:
        """Tell how much is done, and which share (0 to 1) of all that is, where that is known."""
        if not sys.stderr.isatty() or time.monotonic() - self._shown < _EVERY:
            return
        self._shown = time.monotonic()
        text = f"{done:,} {self._what}" + (f", {share:.0%}" if share is not None else "")
        sys.stderr.write("\r" + text.ljust(self._wide))
        sys.stderr.flush()
        self._wide = len(text)
