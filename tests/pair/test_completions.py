"""The main job, end to end: a request, its lane and its receipt."""

from __future__ import annotations

import asyncio

import pytest

from flatfee import (
    AsyncClient,
    AuthenticationError,
    BillingError,
    Client,
    ConcurrencyLimitError,
    FallbackExhausted,
    InternalServerError,
    Lane,
    NotFoundError,
    Reason,
)
from flatfee.cli.demo.gateway import DemoGateway
from flatfee.server.app import App
from flatfee.server.providers.simulated import FaultKind, SimulatedFault, SimulatedProvider

from .conftest import CONFIGURATION, HELLO, connected

Pair = tuple[AsyncClient, App]
DOWN = SimulatedFault(kind=FaultKind.UNREACHABLE)


def script(app: App, provider: str, route: str, *faults: SimulatedFault, always: SimulatedFault | None = None) -> None:
    simulated = app.gateway.providers[provider]
    assert isinstance(simulated, SimulatedProvider)
    simulated.script(route, *faults, always=always)


def all_down(app: App) -> None:
    for provider, route in (("north", "north-premium"), ("south", "south-premium"), ("north", "north-economy")):
        script(app, provider, route, always=DOWN)


async def test_a_plain_answer_carries_its_settled_receipt(pair: Pair) -> None:
    client, _ = pair
    completion = await client.chat.completions.create(model="auto", messages=HELLO)
    receipt = completion.receipt
    assert receipt is not None
    assert (receipt.lane, receipt.reason, receipt.state) == (Lane.PREMIUM, Reason.DEFAULT, "settled")
    assert receipt.usage is not None
    assert completion.usage is not None
    assert receipt.usage.completion_tokens == completion.usage.completion_tokens
    assert receipt.fair_use is not None
    assert receipt.fair_use.charged == completion.usage.prompt_tokens + 4 * completion.usage.completion_tokens
    assert receipt.fair_use.remaining == 20000 - receipt.fair_use.charged
    assert (receipt.route, receipt.model_served, receipt.model_requested) == ("north-premium", "sim-large", "auto")
    assert receipt.created_at is not None


async def test_the_receipt_can_be_looked_up_and_is_the_same(pair: Pair) -> None:
    client, _ = pair
    completion = await client.chat.completions.create(model="premium", messages=HELLO, workflow="run-1")
    assert completion.receipt is not None
    assert completion.receipt.request_id is not None
    found = await client.receipts.retrieve(completion.receipt.request_id)
    told = found.model_dump(exclude={"facts", "ended_at"})  # which are kept beside it
    assert told == completion.receipt.model_dump(exclude={"facts", "ended_at"})
    assert found.facts
    assert found.facts.prompt_tokens
    listed = await client.receipts.list(workflow="run-1")
    assert [receipt.request_id for receipt in listed.data] == [completion.receipt.request_id]


async def test_a_stream_has_a_receipt_before_its_first_token_and_settles_it(pair: Pair) -> None:
    client, _ = pair
    stream = await client.chat.completions.create(model="premium", messages=HELLO, stream=True)
    early = stream.receipt
    assert early is not None
    assert (early.lane, early.route, early.state) == (Lane.PREMIUM, "north-premium", "in_flight")
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    plain = await client.chat.completions.create(model="premium", messages=HELLO)
    assert text == plain.choices[0].message.content
    assert stream.receipt is not None
    assert stream.receipt.state == "settled"
    assert stream.receipt.request_id == early.request_id
    assert plain.receipt is not None
    assert stream.receipt.usage == plain.receipt.usage


async def test_a_small_task_takes_the_budget_lane_uncharged(pair: Pair) -> None:
    client, _ = pair
    completion = await client.chat.completions.create(model="auto", messages=HELLO, max_tokens=20)
    assert completion.receipt is not None
    assert (completion.receipt.lane, completion.receipt.reason) == (Lane.BUDGET, Reason.SMALL_TASK)
    assert completion.receipt.fair_use is not None
    assert completion.receipt.fair_use.charged == 0


async def test_spent_fair_use_goes_on_in_the_continuation_lane() -> None:
    async with connected(CONFIGURATION.replace("fair_use = 20000", "fair_use = 100")) as (client, _):
        completion = await client.chat.completions.create(model="premium", messages=HELLO)
        assert completion.receipt is not None
        assert (completion.receipt.lane, completion.receipt.reason) == (Lane.CONTINUATION, Reason.FAIR_USE_EXHAUSTED)
        with pytest.raises(BillingError) as caught:
            await client.chat.completions.create(model="premium", messages=HELLO, on_exhausted="fail")
        assert caught.value.code == "fair_use_exhausted"
        assert caught.value.receipt is not None
        assert caught.value.receipt.fair_use is not None
        assert caught.value.receipt.fair_use.remaining == 100
        assert caught.value.request_id is not None
        assert (await client.receipts.retrieve(caught.value.request_id)).state == "refused"


async def test_a_failing_route_is_left_for_the_next(pair: Pair) -> None:
    client, app = pair
    script(app, "north", "north-premium", always=SimulatedFault(kind=FaultKind.ERROR, status=401))
    completion = await client.chat.completions.create(model="premium", messages=HELLO)
    receipt = completion.receipt
    assert receipt is not None
    assert (receipt.lane, receipt.reason, receipt.route) == (Lane.FALLBACK, Reason.PROVIDER_ERROR, "south-premium")
    assert receipt.attempts is not None
    assert [(attempt.route, attempt.outcome) for attempt in receipt.attempts] == [
        ("north-premium", "error"),
        ("south-premium", "ok"),
    ]
    assert receipt.fair_use is not None
    assert receipt.fair_use.charged


async def test_when_all_routes_fail_the_client_raises_fallback_exhausted_and_does_not_retry(pair: Pair) -> None:
    client, app = pair
    all_down(app)
    with pytest.raises(FallbackExhausted) as caught:
        await client.chat.completions.create(model="premium", messages=HELLO)
    assert {attempt.route for attempt in caught.value.attempts} == {"north-premium", "south-premium", "north-economy"}
    simulated = app.gateway.providers["south"]
    assert isinstance(simulated, SimulatedProvider)
    assert len(simulated.calls) == 2, "the gateway tries a route twice, and the client tries the gateway once"
    fair_use = (await client.usage.retrieve()).fair_use
    assert fair_use is not None
    assert (fair_use.used, fair_use.pending) == (0, 0)


def test_a_stream_that_breaks_midway_raises_and_is_not_charged(gateway: DemoGateway, client: Client) -> None:
    for route in gateway.settings.routes:
        gateway.providers[route.provider].script(route.name, always=SimulatedFault(kind=FaultKind.BREAK_MIDWAY))
    text = ""
    stream = client.chat.completions.create(model="premium", messages=HELLO, stream=True)
    with pytest.raises(InternalServerError) as caught:  # noqa: PT012 - iterating is what raises
        for chunk in stream:
            text += chunk.choices[0].delta.content or ""
    assert text
    assert caught.value.receipt is not None
    assert caught.value.receipt.fair_use is not None
    assert caught.value.receipt.fair_use.charged == 0


def test_an_abandoned_stream_is_charged_as_estimated_and_frees_its_slot(gateway: DemoGateway, client: Client) -> None:
    for route in gateway.settings.routes:
        gateway.providers[route.provider].script(route.name, always=SimulatedFault(kind=FaultKind.STALL_MIDWAY))
    with client.chat.completions.create(model="premium", messages=HELLO, stream=True) as stream:
        next(stream)
    assert stream.receipt is not None
    assert stream.receipt.request_id is not None
    receipt = client.receipts.retrieve(stream.receipt.request_id)
    while receipt.state == "in_flight":  # until the gateway has seen the goodbye; pytest's own limit ends a hang
        receipt = client.receipts.retrieve(stream.receipt.request_id)
    assert receipt.state == "estimated"
    assert receipt.fair_use is not None
    assert receipt.fair_use.charged
    workflows = client.usage.retrieve().workflows
    assert workflows is not None
    assert workflows.active == 0


async def test_a_third_workflow_is_refused_until_one_is_released(pair: Pair) -> None:
    client, _ = pair
    patient = client.with_options(max_retries=0)
    async with patient.workflow("one") as one:
        await one.chat.completions.create(model="economy", messages=HELLO)
        async with patient.workflow("two") as two:
            await two.chat.completions.create(model="economy", messages=HELLO)
            with pytest.raises(ConcurrencyLimitError) as caught:
                await patient.chat.completions.create(model="economy", messages=HELLO, workflow="three")
            assert caught.value.retry_after is not None
            assert 0 < caught.value.retry_after <= 120
            leases = await client.workflows.list()
            assert [lease.id for lease in leases.data] == ["one", "two"]
        await patient.chat.completions.create(model="economy", messages=HELLO, workflow="three")


async def test_the_dry_run_tells_what_the_request_then_does(pair: Pair) -> None:
    client, app = pair
    told = await client.route(model="auto", messages=HELLO, task="plan")
    done = await client.chat.completions.create(model="auto", messages=HELLO, task="plan")
    assert done.receipt is not None
    assert (told.lane, told.reason, told.route) == (done.receipt.lane, done.receipt.reason, done.receipt.route)
    assert [step.route for step in told.then] == ["south-premium", "north-economy"]
    first = told.on_failure[0]
    assert (first.failure, first.next, first.then_error) == ("provider_timeout", "south-premium", "fallback_exhausted")
    simulated = app.gateway.providers["north"]
    assert isinstance(simulated, SimulatedProvider)
    assert simulated.calls == ["north-premium"], "the dry run calls no provider"


async def test_models_and_usage_are_told(pair: Pair) -> None:
    client, _ = pair
    models = await client.models.list()
    assert [model.id for model in models.data] == ["auto", "premium", "economy"]
    assert (await client.models.retrieve("premium")).id == "premium"
    usage = await client.usage.retrieve()
    assert (usage.account, usage.project, usage.plan) == ("acme", "ci", "pro")
    with pytest.raises(NotFoundError, match=r"gpt-9.*auto, premium, economy"):
        await client.chat.completions.create(model="gpt-9", messages=HELLO)


async def test_a_wrong_key_is_an_authentication_error_with_a_request_id(pair: Pair) -> None:
    client, _ = pair
    with pytest.raises(AuthenticationError) as caught:
        await client.with_options(api_key="x" * 40).usage.retrieve()
    assert caught.value.request_id is not None
    assert "x" * 40 not in str(caught.value)


async def test_parallel_requests_never_oversell_the_plan() -> None:
    tight = CONFIGURATION.replace("fair_use = 20000", "fair_use = 10500").replace(
        "concurrent_workflows = 2", "concurrent_workflows = 100"
    )
    async with connected(tight) as (client, _):
        answers = await asyncio.gather(
            *(client.chat.completions.create(model="premium", messages=HELLO) for _ in range(20))
        )
        receipts = [answer.receipt for answer in answers if answer.receipt is not None]
        assert {receipt.lane for receipt in receipts} == {Lane.PREMIUM, Lane.CONTINUATION}
        charged = sum(receipt.fair_use.charged or 0 for receipt in receipts if receipt.fair_use is not None)
        fair_use = (await client.usage.retrieve()).fair_use
        assert fair_use is not None
        assert fair_use.used == charged
        assert charged <= 10500


async def test_a_refused_dry_run_tells_how_the_account_stands() -> None:
    spent = CONFIGURATION.replace("fair_use = 20000", "fair_use = 100")
    async with connected(spent) as (client, _):
        with pytest.raises(BillingError) as caught:
            await client.route(model="premium", messages=HELLO, on_exhausted="fail")
        receipt = caught.value.receipt
        assert receipt is not None
        assert receipt.fair_use is not None
        assert (receipt.fair_use.remaining, receipt.fair_use.limit) == (100, 100)
        assert receipt.model_requested == "premium"
        assert caught.value.headers["x-flatfee-fair-use-remaining"] == "100"
