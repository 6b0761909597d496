"""After a reset a gateway is as it was at its start, but for the clock."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from tests.testing.fakes import HELLO, Gate, held, play, until

import flatfee
from flatfee.testing import running_gateway
from flatfee.testing.running.clock import START


def test_a_reset_forgets_everything_but_the_time_and_the_key() -> None:
    with running_gateway(fair_use=1000, socket=False) as gateway:
        client = gateway.client(max_retries=0)
        once = {"Idempotency-Key": "once", "x-flatfee-workflow": "run-1"}
        first = client.chat.completions.create(model="premium", messages=HELLO, max_tokens=5, extra_headers=once)
        before = gateway.account.usage
        key = gateway.new_key(account="other")
        gateway.account.set(used=900, fair_use=950, billing="past_due", requests_per_minute=1)
        gateway.workflows.hold(2)
        gateway.routes["premium-a"].open()
        gateway.routes["premium-b"].down()
        gateway.advance(60)
        gateway.reset()

        assert gateway.now >= START + timedelta(seconds=60)
        assert gateway.account.usage.fair_use != before.fair_use
        assert gateway.account.usage.billing == "active"
        assert gateway.workflows.active == ()
        assert [*gateway.accounts] == ["acme"]
        assert gateway.routes["premium-a"].health.circuit == "closed"
        assert list(gateway.journal) == []
        assert client.receipts.list().data == []
        again = client.chat.completions.create(model="premium", messages=HELLO, max_tokens=5, extra_headers=once)
        assert first.receipt is not None
        assert again.receipt is not None
        assert again.receipt.request_id != first.receipt.request_id
        assert again.receipt.fair_use == first.receipt.fair_use
        assert [each.number for each in gateway.journal.completions] == [1]
        with pytest.raises(flatfee.AuthenticationError):
            gateway.client(api_key=key).usage.retrieve()


def test_a_reset_can_be_done_again_and_again() -> None:
    with running_gateway(socket=False) as gateway:
        for _ in range(3):
            gateway.account.set(used=50)
            gateway.reset()
        fair_use = gateway.account.usage.fair_use
    assert fair_use is not None
    assert fair_use.used == 0


def test_chance_begins_anew() -> None:
    with running_gateway(seed=3, socket=False) as gateway:
        first = [gateway._inside.gateway.chance() for _ in range(3)]
        gateway.reset()
        assert [gateway._inside.gateway.chance() for _ in range(3)] == first


def test_a_reset_ends_the_gateways_own_failures() -> None:
    with running_gateway(socket=False) as gateway, gateway.ledger_down():
        gateway.reset()
        assert gateway.account.usage.billing == "active"


def test_a_request_that_runs_over_a_reset_ends_and_belongs_to_nobody() -> None:
    gate = Gate()
    with running_gateway(socket=False) as gateway, ThreadPoolExecutor() as threads, gate:
        play(gateway, premium_a=held(gate))
        client = gateway.client(max_retries=0)
        running = threads.submit(client.chat.completions.create, model="premium", messages=HELLO)
        until(lambda: gate.waited_at)
        gateway.reset()
        gate.open()
        receipt = running.result(60).receipt
        assert receipt is not None
        assert receipt.state == "estimated"
        assert client.receipts.list().data == []
        assert len(gateway.journal.completions) == 0
        assert gateway.run(gateway._inside.store.audit_books()) == []
