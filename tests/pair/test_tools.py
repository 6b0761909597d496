"""Structured output and tool loops against the gateway itself."""

from __future__ import annotations

from enum import Enum

import pytest
from pydantic import BaseModel, Field

from flatfee import APIError, AsyncClient, Client, Reason, pydantic_function_tool
from flatfee.server.app import App
from flatfee.server.providers.simulated import FaultKind, SimulatedFault, SimulatedProvider

from .conftest import HELLO

Pair = tuple[AsyncClient, App]


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


class Item(BaseModel):
    """One thing."""

    name: str
    size: Size
    parts: list[Item]


class Order(BaseModel):
    items: list[Item] = Field(min_length=1)
    total: float
    note: str | None


async def test_an_answer_is_read_into_the_model_that_was_asked_for(pair: Pair) -> None:
    client, _ = pair
    completion = await client.chat.completions.parse(model="auto", messages=HELLO, response_format=Order)
    order = completion.choices[0].message.parsed
    assert isinstance(order, Order)
    assert order.items[0].size is Size.SMALL
    assert completion.receipt is not None
    assert completion.receipt.state == "settled"


async def test_the_tool_of_a_model_is_called_with_one(pair: Pair) -> None:
    client, _ = pair
    tools = [pydantic_function_tool(Order)]
    completion = await client.chat.completions.parse(model="auto", messages=HELLO, tools=tools)
    calls = completion.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].function is not None
    assert isinstance(calls[0].function.parsed_arguments, Order)


async def test_a_loop_stays_on_one_lane_pays_for_each_step_and_frees_its_slot(pair: Pair) -> None:
    client, _ = pair
    asked: list[str] = []

    async def weather(city: str) -> str:
        asked.append(city)
        return "sunny"

    run = await client.chat.completions.run_tools(model="auto", messages=HELLO, tools=[weather])
    assert asked == ["text"]
    assert run.text.startswith("This is sim-large")
    assert [receipt.route for receipt in run.receipts] == ["north-premium", "north-premium"]
    assert run.receipts[1].reason == Reason.WORKFLOW_AFFINITY
    usage = await client.usage.retrieve()
    assert usage.fair_use is not None
    assert run.units == usage.fair_use.used
    listed = await client.receipts.list(workflow=run.workflow)
    assert {receipt.request_id for receipt in listed.data} == {receipt.request_id for receipt in run.receipts}
    assert [workflow.id async for workflow in client.workflows.list()] == []


async def test_a_loop_in_a_scope_leaves_the_slot_to_the_scope(pair: Pair) -> None:
    client, _ = pair

    def weather(city: str) -> str:
        return city

    async with client.workflow("run-7") as scope:
        await scope.chat.completions.run_tools(model="auto", messages=HELLO, tools=[weather])
        assert [workflow.id async for workflow in client.workflows.list()] == ["run-7"]
    assert [workflow.id async for workflow in client.workflows.list()] == []


async def test_a_loop_that_fails_keeps_what_was_paid_for(pair: Pair) -> None:
    client, app = pair

    def weather(city: str) -> str:
        for name, provider in app.gateway.providers.items():
            assert isinstance(provider, SimulatedProvider), name
            for route in ("north-premium", "south-premium", "north-economy"):
                provider.script(route, always=SimulatedFault(kind=FaultKind.ERROR, status=400))
        return city

    with pytest.raises(APIError) as caught:
        await client.chat.completions.run_tools(model="premium", messages=HELLO, tools=[weather])
    run = caught.value.run
    assert run is not None
    assert len(run.steps) == 1
    assert run.units > 0
    assert caught.value.receipt is not None
    assert [workflow.id async for workflow in client.workflows.list()] == []


def test_the_blocking_client_runs_the_same_loop(client: Client) -> None:
    def order(item: Item, count: int = 1) -> Order:
        return Order(items=[item], total=count, note=None)

    run = client.chat.completions.run_tools(
        model="premium", messages=HELLO, tools=[order], response_format=Order, deadline=60.0
    )
    assert isinstance(run.parsed, Order)
    assert run.steps[0].results[0].error is None
    assert [workflow.id for workflow in client.workflows.list()] == []
