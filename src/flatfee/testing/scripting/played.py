"""What a provider does for one try of a route, step by step. Values only; ``provider`` plays them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from flatfee.wire import AttemptOutcome

if TYPE_CHECKING:
    from flatfee.testing.scripting.asked import Asked


@dataclass(frozen=True, slots=True)
class Pause:
    """The provider is silent for so many seconds of the gateway's clock; ``None``: for ever."""

    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """The connection to the provider fails, as the gateway's own adapters tell it.

    ``stale``: it was one kept from an earlier answer, which providers may close when they like.
    """

    outcome: AttemptOutcome
    message: str = "broke off"
    stale: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """The provider is silent until somebody opens the gate."""

    gate: Gate


class Gate(Protocol):
    """What can be waited for on the gateway's event loop."""

    async def passed(self) -> None:
        """Return once it is open."""
        ...


Piece = bytes | Pause | Failure | Held


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """One answer. ``before`` is what happens before its head arrives; header names are lower case."""

    pieces: tuple[Piece, ...] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    before: tuple[Pause | Failure | Held, ...] = ()


@runtime_checkable
class Answering(Protocol):
    """What a rule may answer with: a reply, a fault."""

    def play(self, asked: Asked) -> Played:
        """Return what the provider does when asked so. Called on the gateway's event loop: it must not wait."""
        ...


@runtime_checkable
class Calling(Protocol):
    """An answer that may call tools, and must not call them again when their results come."""

    @property
    def calls_tools(self) -> bool:
        """Whether it calls any."""
        ...

    def loops(self, asked: Asked) -> bool:
        """Return whether it would call the very tools whose results the request brings."""
        ...


def calling(given: object) -> Calling | None:
    """Return an answer that calls tools as such; ``None``: it calls none, as far as is known before it is needed."""
    return given if isinstance(given, Calling) and given.calls_tools else None


@runtime_checkable
class Beside(Protocol):
    """What a rule may give that is no answer of a provider: it happens when the request has come."""

    def begin(self, asked: Asked) -> None:
        """Let it happen to the request that is served. Called on the gateway's event loop, in that request's task.

        ``asked`` names no route yet, and its ``attempt`` is 0.
        """
        ...


Make = Callable[["Asked"], "Answering | Beside | str"]
"""A function that makes an answer when it is needed."""

Answer = Answering | Beside | Make | str
"""What a rule may give: a text, a reply, a fault, or a function that returns one of them."""
