"""The script of a gateway: rules in their order, and which of them answers a try."""

from __future__ import annotations

import threading

from flatfee.testing.asked import Asked
from flatfee.testing.played import Answering


class Script:
    """Rules in the order in which they were made. Used from the test's threads and the gateway's: it has a lock."""

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self._lock = threading.Lock()

    def choose(self, asked: Asked) -> tuple[str, Answering] | None:
        """Return the name of the rule that answers a try, and its answer; ``None``: the default model does.

        Raises:
            Unmatched: the script is strict, and no rule matches.
        """
        del asked
        with self._lock:
            return None

    def clear(self) -> None:
        """Forget every rule."""
