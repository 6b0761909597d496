"""A replay says of each request what the gateway does with it, on the same configuration and on a changed one."""

from __future__ import annotations

import logging

import pytest
from tests.replays.proof import Compared, prove

pytestmark = pytest.mark.slow
"""It goes through many cases; ``make check`` has the time."""

_LANES = {"premium", "budget", "continuation", "fallback"}
_REFUSALS = {"workflow_limit", "fair_use_exhausted", "fallback_exhausted"}


@pytest.fixture(scope="module")
def proved() -> list[Compared]:
    logging.disable()
    try:
        return prove(seed=4, accounts=4, requests=60, days=1, outage_each=2.0)
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize("which", [0, 1], ids=["the same", "changed"])
def test_a_replay_matches_the_gateway_receipt_by_receipt(proved: list[Compared], which: int) -> None:
    assert proved[which].mismatches == ()


def test_the_traffic_meets_every_lane_and_limit(proved: list[Compared]) -> None:
    assert proved[0].seen.keys() >= _LANES | _REFUSALS
    assert proved[0].seen != proved[1].seen
