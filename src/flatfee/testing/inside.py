"""What the controls of a scripted gateway work on: the gateway's own parts, and the way onto its event loop."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from flatfee.server.gateway import Gateway
from flatfee.server.settings import PlanSettings
from flatfee.testing.running.clock import VirtualClock
from flatfee.testing.running.front import Front
from flatfee.testing.running.loop import LoopThread
from flatfee.testing.running.provider import DoubleProvider
from flatfee.testing.state.ledger import DoubleStore

_T = TypeVar("_T")

ACTOR: Final = "flatfee.testing"
"""Who did what a test did, in the audit log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """The parts of a running gateway. ``account`` and ``project`` are those of its own key, ``plan`` the first plan."""

    gateway: Gateway
    store: DoubleStore
    provider: DoubleProvider
    front: Front
    thread: LoopThread
    clock: VirtualClock
    account: str
    project: str
    plan: PlanSettings

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine on the gateway's event loop, and return what it returns."""
        return self.thread.call(work)

    def change(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine that changes what the gateway answers: a request that failed before may be sent again."""
        done = self.run(work)
        self.changed()
        return done

    def changed(self) -> None:
        """Note that a test changed what the gateway answers."""
        self.front.exchanges.state_changed()
