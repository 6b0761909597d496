"""What hears of a client's calls: whoever listens. Decides nothing, sends nothing.

A call passes through ``Errand`` (``client.errand``), which tells the watch of each step. Listeners
cost nothing where there are none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from flatfee.client.watching.fair_use import FairUseSight
from flatfee.errors import APIError

if TYPE_CHECKING:
    from flatfee.client.errand import Errand
    from flatfee.client.stream import StreamState


class Listener(Protocol):
    """Hears of every call of a client. What it raises would be the caller's to see, so it raises nothing."""

    def began(self, errand: Errand[Any]) -> None:
        """A call begins; nothing was sent yet."""
        ...

    def tried(self, errand: Errand[Any], error: APIError) -> None:
        """A try failed; the call may be tried again, or ``failed`` follows."""
        ...

    def answered(self, errand: Errand[Any], answer: object, headers: Mapping[str, str]) -> None:
        """A call has its typed answer, which came with ``headers``."""
        ...

    def handed(self, errand: Errand[Any], headers: Mapping[str, str]) -> None:
        """A call has its response, and the caller reads the body: there are only ``headers`` to hear of."""
        ...

    def failed(self, errand: Errand[Any], error: BaseException) -> None:
        """A call failed for good, or was cancelled."""
        ...

    def opened(self, errand: Errand[Any], state: StreamState) -> None:
        """A stream's response has started; its receipt is in flight."""
        ...

    def ended(self, errand: Errand[Any], state: StreamState) -> None:
        """A stream is over: whole, failed (``state.failure``), or closed or dropped by its reader. Told once."""
        ...


class Watch:
    """What all calls of a client, its copies and its workflows have in common to tell."""

    def __init__(self, listeners: tuple[Listener, ...] = (), fair_use: FairUseSight | None = None) -> None:
        self.listeners = listeners
        self.fair_use = fair_use or FairUseSight()
