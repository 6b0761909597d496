"""What the server's tests share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = str(Path(__file__).parents[2])
if ROOT not in sys.path:
    sys.path.append(ROOT)


@pytest.fixture(autouse=True)
def _short_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try the same route again at once, so that tests need not wait."""
    monkeypatch.setattr("flatfee.server.stages.failures.SAME_ROUTE_PAUSE", 0.001)
