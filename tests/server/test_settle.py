"""What a request is charged and what its receipt says, for each way it can end."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace
from tests.server.fakes import make_settings

from flatfee.receipt import Receipt
from flatfee.server.ask import Ask, read_ask
from flatfee.server.gateway import Gateway
from flatfee.server.meter import Meter
from flatfee.server.settings import PlanSettings, RouteSettings
from flatfee.server.stages.settle import Bill, charge, lane_of, outcome_of
from flatfee.server.statement import UsedTokens
from flatfee.server.store.entries import as_json
from flatfee.server.store.memory import MemoryStore
from flatfee.server.store.records import Offer, Outcome, Purse, Settlement, Standing, Terms, Ticket
from flatfee.server.windows import Window
from flatfee.wire import AttemptOutcome, Lane, Reason, ReceiptState, Tier

PLAN = PlanSettings(name="pro", fair_use=1_000_000)
PREMIUM = RouteSettings(name="p1", provider="p", model="gpt-5.1", tier=Tier.PREMIUM)
SPARE = RouteSettings(name="p2", provider="p", model="gpt-5", tier=Tier.PREMIUM)
ECONOMY = RouteSettings(name="e1", provider="p", model="small", tier=Tier.ECONOMY)
USAGE = UsedTokens(prompt_tokens=100, completion_tokens=50, cached_tokens=0)
FAIR_USE = Offer(lane=Lane.PREMIUM, reason=Reason.DEFAULT, purse=Purse.FAIR_USE, units=4000)
BUDGET = Offer(lane=Lane.BUDGET, reason=Reason.SMALL_TASK, purse=Purse.NONE)
CONTINUATION = Offer(lane=Lane.CONTINUATION, reason=Reason.FAIR_USE_EXHAUSTED, purse=Purse.CONTINUATION, units=4000)


def a_ticket(offer: Offer = FAIR_USE) -> Ticket:
    return Ticket(
        request_id="req_1",
        account="acme",
        project="ci",
        workflow=None,
        choice=0,
        offer=offer,
        terms=Terms(
            unit="token",
            fair_use=1_000_000,
            continuation_limit=None,
            workflows=4,
            fanout=16,
            idle=120.0,
            requests_per_minute=None,
        ),
        window=Window(0, 10),
        created_at=1_793_534_400.123456,
        standing=Standing(unit="token", remaining=1, limit=1, resets_at=10, workflows_active=1, workflows_limit=4),
    )


def an_ask() -> Ask:
    return read_ask({}, b'{"model":"auto","messages":[{"role":"user","content":"Hello"}]}')


def answered(route: RouteSettings = PREMIUM, usage: UsedTokens | None = USAGE, **more: Any) -> Meter:
    meter = Meter(route=route, trying=route, usage=usage, delivered=200, **{"whole": True} | more)
    meter.tried(route, AttemptOutcome.OK, 200, 1.0)
    return meter


def ended(meter: Meter, offer: Offer = FAIR_USE) -> Outcome:
    return outcome_of(a_ticket(offer), an_ask(), PLAN, meter)


def test_a_whole_answer_with_usage_is_settled() -> None:
    outcome = ended(answered())
    assert (outcome.charged, outcome.route) == (100 + 4 * 50, "p1")
    receipt = outcome.receipt
    assert (receipt.request_id, receipt.state, receipt.model_requested) == ("req_1", ReceiptState.SETTLED, "auto")
    assert (receipt.lane, receipt.reason) == (Lane.PREMIUM, Reason.DEFAULT)
    assert (receipt.route, receipt.model_served, receipt.tier) == ("p1", "gpt-5.1", Tier.PREMIUM)
    assert receipt.usage == USAGE
    assert receipt.created_at is not None
    assert receipt.created_at.isoformat() == "2026-11-01T12:00:00.123000+00:00"


def test_a_whole_answer_without_usage_is_estimated() -> None:
    outcome = ended(answered(usage=None))
    assert outcome.receipt.state == ReceiptState.ESTIMATED
    assert outcome.receipt.usage == UsedTokens(prompt_tokens=an_ask().prompt_tokens, completion_tokens=50)
    assert outcome.charged == an_ask().prompt_tokens + 4 * 50


def test_an_estimate_is_charged_as_the_routes_model_counts_and_what_was_told_as_it_is() -> None:
    wordy = PREMIUM.model_copy(update={"token_factor": 1.3})
    prompt = round(1.3 * an_ask().prompt_tokens)
    outcome = ended(answered(wordy, usage=None))
    assert outcome.receipt.usage == UsedTokens(prompt_tokens=prompt, completion_tokens=65)
    assert outcome.charged == prompt + 4 * 65
    assert ended(answered(wordy)).charged == 100 + 4 * 50


def test_a_caller_that_left_midway_pays_for_what_was_delivered() -> None:
    meter = Meter(trying=PREMIUM, route=PREMIUM, delivered=80)
    meter.caller_left()
    outcome = ended(meter)
    assert outcome.receipt.state == ReceiptState.ESTIMATED
    assert outcome.charged == an_ask().prompt_tokens + 4 * 20


def test_a_caller_that_left_before_the_first_byte_pays_for_the_prompt_at_most() -> None:
    meter = Meter(trying=PREMIUM)
    meter.caller_left()
    outcome = ended(meter)
    assert outcome.charged == an_ask().prompt_tokens


def test_usage_that_came_before_the_caller_left_counts_but_stays_an_estimate() -> None:
    outcome = ended(answered(whole=False))
    assert (outcome.receipt.state, outcome.charged) == (ReceiptState.ESTIMATED, 300)


def test_an_answer_that_broke_midway_is_not_charged() -> None:
    outcome = ended(answered(whole=False, broken=True))
    assert outcome.charged == 0
    assert outcome.receipt.state == ReceiptState.ESTIMATED


def test_without_an_answer_nothing_was_consumed() -> None:
    meter = Meter(trying=SPARE)
    meter.tried(PREMIUM, AttemptOutcome.TIMEOUT, None, 10.0)
    meter.tried(SPARE, AttemptOutcome.ERROR, 500, 0.1)
    outcome = ended(meter)
    assert (outcome.charged, outcome.route, outcome.receipt.state) == (0, None, ReceiptState.REFUSED)
    assert (outcome.receipt.route, outcome.receipt.usage, outcome.receipt.tier) == (None, None, None)
    assert (outcome.receipt.lane, outcome.receipt.reason) == (Lane.FALLBACK, Reason.PROVIDER_TIMEOUT)


@pytest.mark.parametrize(
    ("offer", "route", "charged"),
    [
        (FAIR_USE, PREMIUM, 300),
        (FAIR_USE, ECONOMY, 0),
        (BUDGET, ECONOMY, 0),
        (BUDGET, PREMIUM, 0),
        (CONTINUATION, ECONOMY, 300),
        (replace(FAIR_USE, lane=Lane.BUDGET), ECONOMY, 0),
        (replace(FAIR_USE, lane=Lane.BUDGET), PREMIUM, 300),
    ],
)
def test_fair_use_pays_for_premium_and_continuation_for_what_it_used(
    offer: Offer, route: RouteSettings, charged: int
) -> None:
    assert charge(a_ticket(offer), PLAN, route, USAGE) == charged


def test_cached_tokens_cost_their_share() -> None:
    usage = UsedTokens(prompt_tokens=100, completion_tokens=0, cached_tokens=100)
    assert charge(a_ticket(), PLAN, PREMIUM, usage) == 10
    assert charge(a_ticket(), PLAN, PREMIUM, UsedTokens()) == 0


def test_a_plan_that_counts_requests_charges_one() -> None:
    plan = PlanSettings(name="pro", fair_use=10, meter="requests")
    assert charge(a_ticket(), plan, PREMIUM, USAGE) == 1


def test_an_answer_from_another_route_is_a_fallback_for_the_reason_the_first_was_left() -> None:
    meter = Meter()
    meter.tried(PREMIUM, AttemptOutcome.RATE_LIMITED, 429, 0.1)
    meter.tried(ECONOMY, AttemptOutcome.OK, 200, 0.1)
    meter.route = ECONOMY
    assert lane_of(a_ticket(), meter) == (Lane.FALLBACK, Reason.PROVIDER_RATE_LIMITED)


def test_a_first_choice_that_answered_keeps_its_lane() -> None:
    assert lane_of(a_ticket(CONTINUATION), answered(ECONOMY)) == (Lane.CONTINUATION, Reason.FAIR_USE_EXHAUSTED)


class Counting(MemoryStore):
    """A store that counts settlements, and holds each up until it may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.settled: list[Outcome] = []
        self.may_end = asyncio.Event()

    async def settle(self, ticket: Ticket, outcome: Outcome) -> Settlement:
        self.settled.append(outcome)
        await self.may_end.wait()
        return Settlement(json=as_json(outcome.receipt))


def a_bill(store: Counting) -> Bill:
    gateway = Gateway(settings=make_settings(), store=store, providers={})
    return Bill(ticket=a_ticket(), ask=an_ask(), plan=PLAN, meter=answered(), gateway=gateway)


async def test_a_bill_is_settled_once_however_often_it_is_asked_for() -> None:
    store = Counting()
    store.may_end.set()
    bill = a_bill(store)
    first = await bill.settle()
    bill.meter.usage = UsedTokens(prompt_tokens=10**6)
    assert await bill.settle() is first
    assert len(store.settled) == 1
    assert isinstance(first.receipt, Receipt)


async def test_a_caller_that_is_cancelled_does_not_take_the_settlement_with_it() -> None:
    store = Counting()
    bill = a_bill(store)
    waiting = asyncio.ensure_future(bill.settle())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    store.may_end.set()
    assert (await bill.settle()).json == as_json(store.settled[0].receipt)
    assert len(store.settled) == 1
