"""When a provider that was replaced can be closed: once every request that began before has ended. Pure.

A request takes its providers from the gateway as it runs, and keeps them to its end. It is counted where it
begins, in the epoch of that moment; each replacement begins another epoch. So what an epoch leaves behind can
be in use by requests of that epoch and of those before it, and by no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flatfee.server.providers.base import Provider


@dataclass(slots=True, eq=False)
class Epoch:
    """The time between two replacements: how many of its requests run, and the providers that its end replaced."""

    running: int = 0
    left: Sequence[Provider] = ()


class Epochs:
    """The epochs that a request still runs of, and the present one. There are never more than requests, and one."""

    def __init__(self) -> None:
        self.present = Epoch()
        self._epochs = [self.present]

    def begin(self) -> Epoch:
        """Count a request that begins now; whoever began it says when it ends."""
        epoch = self.present
        epoch.running += 1
        return epoch

    def end(self, epoch: Epoch) -> Sequence[Provider]:
        """Count a request out; return the providers that nobody can use any more."""
        epoch.running -= 1
        return () if epoch is self.present or epoch.running else self._drop(epoch)

    def replace(self, left: Sequence[Provider]) -> Sequence[Provider]:
        """Begin another epoch, without the providers in ``left``; return those that nobody can use any more."""
        before = self.present
        before.left = left
        self.present = Epoch()
        self._epochs.append(self.present)
        return () if before.running else self._drop(before)

    def abandon(self) -> Sequence[Provider]:
        """Return every provider that was left behind and not returned yet: the gateway ends."""
        left = [provider for epoch in self._epochs for provider in epoch.left]
        for epoch in self._epochs:
            epoch.left = ()
        return left

    def __len__(self) -> int:
        return len(self._epochs)

    def _drop(self, epoch: Epoch) -> Sequence[Provider]:
        """Drop an epoch that nobody is left of: what it left behind waits for those before it, if there are any."""
        index = self._epochs.index(epoch)
        del self._epochs[index]
        if index == 0:
            return epoch.left
        self._epochs[index - 1].left = (*self._epochs[index - 1].left, *epoch.left)
        return ()
