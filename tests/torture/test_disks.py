"""Each trouble with the ledger's file once."""

from __future__ import annotations

import pytest
from tests.torture.disks import TROUBLES, Trouble, disks

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("trouble", [each for each in TROUBLES if not each.apart], ids=lambda each: each.name)
def test_nothing_is_served_unmetered_and_nothing_is_lost(trouble: Trouble) -> None:
    assert disks(1, [trouble]).violations == ()


@pytest.mark.torture
def test_every_trouble_after_another() -> None:
    assert disks(2).violations == ()
