"""Which of a gateway's processes this one is, and where it may meet the others. A value: no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True)
class Worker:
    """Worker ``number`` (from 0) of ``count`` that serve one gateway.

    ``meeting`` is a directory that only this gateway's processes can enter: a place for what they
    tell each other. It is there before a worker starts and goes when the last one has ended;
    ``None`` when there is nobody to meet.
    """

    number: int = 0
    count: int = 1
    meeting: Path | None = None

    def share(self, whole: int) -> int:
        """Return this worker's part of a limit of the whole gateway, rounded up."""
        return -(-whole // self.count)


ALONE: Final = Worker()
"""The worker of a gateway that is one process."""
