"""The journal: what a gateway was asked, and what became of it. It tells, and does not judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Final, overload

from flatfee.testing.judging.calls import LogicalCall, calls_of
from flatfee.testing.judging.entry import Entry
from flatfee.testing.judging.table import json_of, text_of
from flatfee.testing.running.exchange import Exchanges

WAIT_SECONDS: Final = 10.0
"""Real seconds that ``wait_for`` waits, unless it is told."""


class Journal(Sequence[Entry]):
    """The requests of a gateway in the order of their arrival, all as they were at one moment.

    It holds the last 10,000 of them, or fewer whose bodies are 256 MiB; ``forgotten`` counts those before.
    """

    def __init__(self, entries: Sequence[Entry], *, forgotten: int = 0) -> None:
        self._entries = tuple(entries)
        self._exchanges = Exchanges()
        self._later: Callable[[], Journal] = lambda: self
        self.forgotten = forgotten

    @classmethod
    def copied(cls, exchanges: Exchanges, epoch: float) -> Journal:
        """Copy what is noted by now. ``epoch`` is when the gateway's clock began, in seconds since the epoch."""
        entries, forgotten = exchanges.copied(lambda exchange: Entry.of(exchange, epoch))
        return cls(entries, forgotten=forgotten)._from(exchanges, lambda: cls.copied(exchanges, epoch))

    def _from(self, exchanges: Exchanges, later: Callable[[], Journal]) -> Journal:
        self._exchanges, self._later = exchanges, later
        return self

    # Which requests

    def only(self, keep: Callable[[Entry], bool]) -> Journal:
        """Return the requests of which ``keep`` is true."""
        some = Journal([entry for entry in self if keep(entry)], forgotten=self.forgotten)
        return some._from(self._exchanges, lambda: self._later().only(keep))

    def of(
        self, *, workflow: str | None = None, path: str | None = None, method: str | None = None, key: str | None = None
    ) -> Journal:
        """Return the requests of a workflow, to a path, of a method, or with a key (its last four characters)."""
        wanted = {"workflow": workflow, "path": path, "method": method, "key": key and key[-4:]}
        told = {name: value for name, value in wanted.items() if value is not None}
        return self.only(lambda entry: all(getattr(entry, name) == value for name, value in told.items()))

    @property
    def completions(self) -> Journal:
        """The requests for completions."""
        return self.only(lambda entry: entry.is_completion)

    @property
    def errors(self) -> Journal:
        """The requests that failed: with an error, one in mid-stream, or a cut."""
        return self.only(lambda entry: entry.failed)

    @property
    def last(self) -> Entry:
        """The request that arrived last.

        Raises:
            LookupError: there is none.
        """
        if not self._entries:
            raise LookupError("The journal has no such request; did the client reach this gateway (gateway.base_url)?")
        return self._entries[-1]

    @cached_property
    def calls(self) -> tuple[LogicalCall, ...]:
        """The requests as calls, each with its tries: see ``calls_of`` for what belongs together."""
        return calls_of(self)

    # Waiting

    def now(self) -> Journal:
        """Return the same journal as it is now."""
        return self._later()

    def wait_for(self, count: int, *, timeout: float = WAIT_SECONDS) -> Journal:
        """Wait until ``count`` requests have come to an end, and return the journal of that moment.

        For clients in other threads and processes. A journal of ``of``, ``only`` and the like waits for requests of
        its kind. ``timeout`` is in real seconds.

        Raises:
            TimeoutError: there were fewer by then. The message has the table of those that came.
        """
        return self.wait_until(
            lambda journal: sum(entry.ended is not None for entry in journal) >= count,
            f"{count} requests have come to an end",
            timeout=timeout,
        )

    def wait_until(
        self, ready: Callable[[Journal], object], what: str = "ready", *, timeout: float = WAIT_SECONDS
    ) -> Journal:
        """Wait until ``ready`` is true of the journal, and return it. ``what`` is for the message of a failure.

        Raises:
            TimeoutError: it is not, after ``timeout`` real seconds.
        """

        def now() -> Journal | None:
            journal = self._later()
            return journal if ready(journal) else None

        found = self._exchanges.wait(timeout, now)
        if found is None:
            raise TimeoutError(f"After {timeout:g} seconds it is not so that {what}:\n{self._later().text()}")
        return found

    # For people and programs

    def text(self, *, bodies: bool = False) -> str:
        """Return a table with a line for each request; ``bodies`` adds what was asked and answered."""
        return text_of(self, forgotten=self.forgotten, bodies=bodies)

    def to_json(self, *, bodies: bool = False) -> list[dict[str, Any]]:
        """Return the requests, ready to be written as JSON; with ``bodies``, what was asked and answered too."""
        return [json_of(entry, bodies=bodies) for entry in self]

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> Journal: ...
    def __getitem__(self, index: int | slice) -> Entry | Journal:
        if isinstance(index, slice):
            some = Journal(self._entries[index], forgotten=self.forgotten)
            return some._from(self._exchanges, lambda: self._later()[index])
        return self._entries[index]

    def __len__(self) -> int:
        return len(self._entries)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"<Journal of {len(self):,} requests, {len(self.errors):,} of them failed>"
