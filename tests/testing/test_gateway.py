"""The double is the production gateway: it answers, it can be reached from anywhere, and its time is its own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

import flatfee
from flatfee.testing import ScriptedGateway, running_gateway
from flatfee.testing.scripting.asked import Asked
from flatfee.testing.scripting.played import Pause, Played

HELLO = [{"role": "user", "content": "Hello"}]


class Silent:
    """A rule's answer that never comes."""

    def play(self, asked: Asked) -> Played:
        return Played(before=(Pause(),))


@pytest.fixture
def gateway() -> Iterator[ScriptedGateway]:
    with running_gateway() as gateway:
        yield gateway


@pytest.fixture
def client(gateway: ScriptedGateway) -> Iterator[flatfee.Client]:
    with flatfee.Client(api_key=gateway.api_key, base_url=gateway.base_url) as client:
        yield client


def test_answers_with_a_receipt(client: flatfee.Client) -> None:
    answer = client.chat.completions.create(model="premium", messages=HELLO)
    assert answer.receipt is not None
    assert answer.receipt.lane == "premium"
    assert answer.receipt.fair_use is not None
    assert answer.receipt.fair_use.limit == 100_000


def test_two_gateways_know_nothing_of_each_other(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    with running_gateway(fair_use=10) as other:
        assert other.base_url != gateway.base_url
        with (
            flatfee.Client(api_key=gateway.api_key, base_url=other.base_url) as stranger,
            pytest.raises(flatfee.AuthenticationError),
        ):
            stranger.chat.completions.create(model="premium", messages=HELLO)


def test_time_goes_by_at_once(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    before = client.usage.retrieve().window
    gateway.advance(timedelta(days=20))
    after = client.usage.retrieve().window
    assert gateway.now >= datetime(2026, 2, 4, 12, tzinfo=UTC)
    assert before is not None
    assert after is not None
    assert after.start == before.end


def test_time_does_not_go_backwards(gateway: ScriptedGateway) -> None:
    with pytest.raises(ValueError, match="time only goes forward"):
        gateway.advance(-1)
