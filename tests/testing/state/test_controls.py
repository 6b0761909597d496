"""Allowance, billing, slots, keys and health are set through what production has, and the books balance."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from tests.testing.fakes import HELLO, Gate, Table, held, play

import flatfee
from flatfee.testing import ScriptedGateway, running_gateway
from flatfee.wire import ErrorCode


@pytest.fixture
def gateway() -> Iterator[ScriptedGateway]:
    with running_gateway(fair_use=1000, concurrent_workflows=3, socket=False) as gateway:
        yield gateway
        assert gateway.run(gateway._inside.store.audit_books()) == []


@pytest.fixture
def client(gateway: ScriptedGateway) -> flatfee.Client:
    return gateway.client(max_retries=0)


def ask(client: flatfee.Client, model: str = "premium", **more: Any) -> flatfee.ChatCompletion:
    answered: flatfee.ChatCompletion = client.chat.completions.create(
        model=model, messages=HELLO, max_tokens=20, **more
    )
    return answered


def receipt_of(client: flatfee.Client, **more: Any) -> flatfee.Receipt:
    receipt = ask(client, **more).receipt
    assert receipt is not None
    return receipt


def used(gateway: ScriptedGateway) -> int | None:
    fair_use = gateway.account.usage.fair_use
    return fair_use.used if fair_use is not None else None


# Allowance and use


def test_usage_is_what_the_endpoint_tells(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    ask(client)
    told = client.usage.retrieve()
    assert gateway.account.usage.model_dump() == told.model_dump()


def test_premium_runs_out_where_a_test_says(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    gateway.account.set(used=900)
    assert receipt_of(client).lane == "premium"
    gateway.account.set(used=1000)
    receipt = receipt_of(client)
    assert (receipt.lane, receipt.reason) == ("continuation", "fair_use_exhausted")


@pytest.mark.parametrize("units", [0, 1, 250, 700, 1000, 5000])
def test_use_can_be_set_up_and_down(gateway: ScriptedGateway, client: flatfee.Client, units: int) -> None:
    gateway.account.spend(300)
    ask(client)
    gateway.account.set(used=units)
    assert used(gateway) == units


def test_what_is_spent_shows_as_a_request_of_the_account(gateway: ScriptedGateway) -> None:
    gateway.account.spend(300)
    team = flatfee.Client(api_key=gateway.new_key(team=True), base_url=gateway.base_url, http_client=_http(gateway))
    (receipt,) = team.receipts.list().data
    assert receipt.fair_use is not None
    assert (receipt.lane, receipt.state, receipt.fair_use.charged) == ("premium", "settled", 300)
    assert gateway.client().receipts.list().data == []


def test_continuation_has_a_use_of_its_own(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    gateway.account.set(used=1000, continuation_limit=400, continuation_used=300)
    assert receipt_of(client).lane == "continuation"
    gateway.account.spend(400, continuation=True)
    with pytest.raises(flatfee.BillingError):
        ask(client)
    gateway.account.set(continuation_used=0)
    assert receipt_of(client).lane == "continuation"
    assert used(gateway) == 1000


def test_a_smaller_allowance_keeps_what_was_used(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    gateway.account.set(used=800)
    gateway.account.set(fair_use=500)
    fair_use = gateway.account.usage.fair_use
    assert fair_use is not None
    assert (fair_use.limit, fair_use.used, fair_use.remaining) == (500, 800, 0)
    assert receipt_of(client).lane == "continuation"


def test_the_meter_can_change(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    gateway.account.set(meter="requests", fair_use=2, used=1)
    assert [receipt_of(client).lane for _ in range(2)] == ["premium", "continuation"]


def test_a_new_window_has_nothing_used(gateway: ScriptedGateway) -> None:
    gateway.account.set(used=800)
    gateway.advance_to_window_end()
    assert used(gateway) == 0
    gateway.account.set(used=10)
    assert used(gateway) == 10


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"used": -5}, "used=-5 is not possible; use a whole number of units, 0 or more"),
        ({"used": 1.5}, "used=1.5 is not possible"),
        ({"used": True}, "used=True is not possible"),
        ({"continuation_used": 1 << 60}, "is not possible"),
        ({"fair_use": -1}, "fair_use: -1 is not possible: input should be greater than or equal to 0"),
        ({"window": "1y"}, "window: unknown window '1y'; use 'month' or a length"),
        ({"billing": "late"}, "billing: unknown value 'late'; use 'active', 'past_due'"),
        ({"billing_day": 32}, "billing_day: 32 is not possible"),
        ({"fair_usage": 3}, r"account.set\(\) knows no 'fair_usage'; use fair_use"),
        ({"xyz": 3}, "use one of: fair_use"),
    ],
)
def test_what_is_impossible_is_named_with_its_cure_and_changes_nothing(
    gateway: ScriptedGateway, changes: dict[str, Any], told: str
) -> None:
    before = gateway.account.usage
    with pytest.raises(ValueError, match=told):
        gateway.account.set(**{"workflow_fanout": 3, **changes})
    assert gateway.account.usage == before
    assert gateway._inside.gateway.settings.plans[0].workflow_fanout == 16


def test_units_to_spend_are_none_below_zero(gateway: ScriptedGateway) -> None:
    with pytest.raises(ValueError, match="units=-1 is not possible"):
        gateway.account.spend(-1)


# Billing, accounts and keys


def test_billing_states_do_what_they_do(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    gateway.account.set(billing="past_due")
    receipt = receipt_of(client)
    assert (receipt.lane, receipt.reason) == ("continuation", "billing_state")
    gateway.account.set(continuation=False)
    assert _code(lambda: ask(client)) == "billing_inactive"
    gateway.account.set(billing="active")
    assert receipt_of(client).lane == "premium"


def test_a_new_account_has_an_allowance_of_its_own(gateway: ScriptedGateway) -> None:
    key = gateway.new_key(account="other", project="docs")
    gateway.account.set(used=1000, fair_use=10)
    other = gateway.client(api_key=key)
    assert receipt_of(other).lane == "premium"
    usage = gateway.accounts["other"].usage
    assert (usage.account, usage.project) == ("other", "docs")
    gateway.accounts["other"].set(concurrent_workflows=1, used=1000)
    assert receipt_of(other).lane == "continuation"
    assert [*gateway.accounts] == ["acme", "other"]
    assert gateway.account.usage.workflows != gateway.accounts["other"].usage.workflows


def test_a_key_knows_its_models_and_its_end(gateway: ScriptedGateway) -> None:
    client = gateway.client(api_key=gateway.new_key(models=("economy",), expires=60), max_retries=0)
    assert receipt_of(client, model="economy").lane == "budget"
    assert _code(lambda: ask(client)) == "permission_denied"
    gateway.advance(61)
    assert _code(lambda: ask(client, model="economy")) == "invalid_api_key"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"models": ("gpt-9",)}, "no model 'gpt-9'; use one of: auto"),
        ({"account": "no name"}, "'no name' is not a name"),
        ({"project": "no name"}, "'no name' is not a name"),
        ({"project": "docs", "team": True}, "a team key belongs to the account"),
        ({"expires": "2026-01-01"}, "has no time zone"),
    ],
)
def test_an_impossible_key_is_named_with_its_cure(gateway: ScriptedGateway, wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        gateway.new_key(**wrong)


def test_an_account_that_is_not_there_is_told_with_those_that_are(gateway: ScriptedGateway) -> None:
    with pytest.raises(KeyError, match="no account 'x'; there are: acme"):
        gateway.accounts["x"]


# Workflows


def test_the_third_workflow_is_refused(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    gateway.workflows.hold(3)
    with pytest.raises(flatfee.ConcurrencyLimitError) as refused:
        ask(client)
    assert refused.value.retry_after == pytest.approx(120, abs=1)
    gateway.workflows.release("held-2")
    assert receipt_of(client).lane == "premium"


def test_requests_of_a_held_workflow_share_its_slot(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    gateway.workflows.hold("run-1")
    gateway.workflows.hold(2)
    ask(client, extra_headers={"x-flatfee-workflow": "run-1"})
    assert [each.id for each in client.workflows.list().data] == ["run-1", "held-1", "held-2"]


def test_held_slots_expire_by_the_clock(gateway: ScriptedGateway) -> None:
    gateway.account.set(workflow_idle=30.0)
    gateway.workflows.hold("run-1")
    gateway.advance(20)
    gateway.workflows.hold(1)
    gateway.advance(11)
    assert [each.id for each in gateway.workflows.active] == ["held-1"]
    assert gateway.workflows.hold(1) == ("held-2",)


def test_a_slot_is_released_with_the_last_request_that_runs(gateway: ScriptedGateway) -> None:
    gate = Gate()
    play(gateway, premium_a=held(gate))

    async def main() -> None:
        async with gateway.async_client() as client:
            asking = asyncio.ensure_future(
                client.chat.completions.create(
                    model="premium", messages=HELLO, max_tokens=20, extra_headers={"x-flatfee-workflow": "run-1"}
                )
            )
            await gate.is_waited_at()
            gateway.workflows.release("run-1")
            assert [each.in_flight for each in gateway.workflows.active] == [1]
            gate.open()
            await asking

    asyncio.run(main())
    assert gateway.workflows.active == ()


@pytest.mark.parametrize(
    ("workflow", "told"),
    [
        ("no id", r"hold\('no id'\): give an id of 1 to 128"),
        (0, "how many slots, 1 or more"),
        (True, "how many slots, 1 or more"),
        (1.5, "how many slots, 1 or more"),
        (4, "0 of 3 workflows of 'acme' are active"),
        (10**18, "0 of 3 workflows of 'acme' are active"),
    ],
)
def test_what_cannot_be_held_is_told(gateway: ScriptedGateway, workflow: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        gateway.workflows.hold(workflow)


def test_what_is_not_held_cannot_be_released(gateway: ScriptedGateway) -> None:
    gateway.workflows.hold("run-1")
    with pytest.raises(KeyError, match="'run-2' of 'acme' holds no slot; run-1 does"):
        gateway.workflows.release("run-2")


def test_slots_of_another_account_are_its_own(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    key = gateway.new_key(account="other")
    gateway.workflows.hold(3, account="other")
    assert receipt_of(client).lane == "premium"
    assert _code(lambda: ask(gateway.client(api_key=key, max_retries=0))) == "workflow_limit"


# Routes


def test_an_open_circuit_is_passed_over_until_it_is_closed(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    route = gateway.routes["premium-a"]
    route.open()
    assert route.health.circuit == "open"
    receipt = receipt_of(client)
    assert (receipt.lane, receipt.reason, receipt.route) == ("fallback", "provider_unavailable", "premium-b")
    route.close()
    assert receipt_of(client).route == "premium-a"


def test_an_open_circuit_cools_down_by_the_clock(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    gateway.routes["premium-a"].open(30)
    gateway.advance(31)
    assert gateway.routes["premium-a"].health.circuit == "half_open"
    assert receipt_of(client).route == "premium-a"
    assert gateway.routes["premium-a"].health.circuit == "closed"


@pytest.mark.parametrize("seconds", [0, -1, 61, float("nan")])
def test_no_circuit_opens_for_longer_than_in_production(gateway: ScriptedGateway, seconds: float) -> None:
    with pytest.raises(ValueError, match="a circuit opens for at most 60 seconds"):
        gateway.routes["premium-a"].open(seconds)


def test_a_route_that_is_down_is_left_whatever_the_script_says(
    gateway: ScriptedGateway, client: flatfee.Client
) -> None:
    asked = play(gateway)
    gateway.routes["premium-a"].down()
    receipt = receipt_of(client)
    assert (receipt.route, next(each.outcome for each in receipt.attempts or ())) == ("premium-b", "unavailable")
    gateway.routes["premium-a"].up()
    gateway.routes["premium-a"].close()
    assert receipt_of(client).route == "premium-a"
    assert _routes(asked) == ["premium-b", "premium-a"]


def test_a_route_that_is_not_there_is_told_with_those_that_are(gateway: ScriptedGateway) -> None:
    with pytest.raises(KeyError, match="no route 'premium-z'; there are: premium-a, premium-b"):
        gateway.routes["premium-z"]
    assert len(gateway.routes) == 4


# The gateway's own failures


def test_a_ledger_that_is_down_is_store_unavailable(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    with gateway.ledger_down():
        assert _code(lambda: ask(client)) == "store_unavailable"
    assert receipt_of(client).lane == "premium"


def test_a_ledger_can_go_down_in_the_middle(gateway: ScriptedGateway) -> None:
    gate = Gate()
    play(gateway, premium_a=held(gate))

    async def main() -> flatfee.ChatCompletion:
        async with gateway.async_client() as client:
            asking = asyncio.ensure_future(
                client.chat.completions.create(model="premium", messages=HELLO, max_tokens=20)
            )
            await gate.is_waited_at()
            with gateway.ledger_down():
                gate.open()
                return await asking

    receipt = asyncio.run(main()).receipt
    assert receipt is not None
    assert receipt.state == "estimated"


def test_overload_and_drain_are_gateway_overloaded(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    for trouble in (gateway.overload, gateway.drain):
        with trouble():
            assert _code(lambda: ask(client)) == "gateway_overloaded"
        assert receipt_of(client).lane == "premium"


def _code(call: Callable[[], object]) -> ErrorCode | str | None:
    with pytest.raises(flatfee.APIStatusError) as raised:
        call()
    return raised.value.code


def _routes(asked: Table) -> list[str]:
    return [each.route for each in asked.asked]


def _http(gateway: ScriptedGateway) -> httpx.Client:
    return httpx.Client(transport=gateway.transport())
