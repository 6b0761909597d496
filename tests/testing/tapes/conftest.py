"""A provider to record, and the tapes of a whole day with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.testing.tapes.upstream import KEY, Upstream, serving


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> Iterator[Upstream]:
    monkeypatch.setenv("UP_KEY", KEY)
    with serving() as upstream:
        yield upstream


@pytest.fixture
def tapes(tmp_path: Path) -> Path:
    return tmp_path / "tapes"
