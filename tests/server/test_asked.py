"""What is kept beside a receipt: the facts of the request, when it ended, the code it was refused with."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.server.fakes import ROUTES, ScriptedProvider, error, make_settings
from tests.server.fakes_gateway import Rig, running

from flatfee.server.ask import read_ask
from flatfee.server.asked import BESIDE, Asked
from flatfee.server.settings import ReceiptsSettings
from flatfee.wire import ReceiptDetail

SECRET = "Zebra, the word of the caller"
FULL = {
    "messages": [{"role": "user", "content": "hi"}, {"role": "tool", "content": SECRET}],
    "tools": [{"type": "function", "function": {"name": "look"}}],
    "max_completion_tokens": 64,
    "n": 2,
    "reasoning_effort": "high",
}


async def kept(rig: Rig, request_id: str) -> dict[str, Any]:
    found: dict[str, Any] = (await rig.client.get(f"/v1/receipts/{request_id}")).json()
    return found


async def test_a_kept_receipt_tells_the_facts_of_its_request() -> None:
    async with running() as rig:
        answer = await rig.ask({"x-flatfee-task": "edit", "x-flatfee-on-exhausted": "fail"}, **FULL)
        receipt = await kept(rig, answer.headers["x-request-id"])
    assert receipt["facts"].pop("prompt_tokens") > 0
    assert receipt["facts"] == {
        "output_tokens": 64,
        "choices": 2,
        "tools": True,
        "tool_loop": True,
        "task": "edit",
        "reasoning_effort": "high",
        "on_exhausted": "fail",
    }
    assert receipt["ended_at"] >= receipt["created_at"]
    assert "code" not in receipt


@pytest.mark.parametrize("stream", [False, True])
async def test_the_answer_itself_tells_nothing_of_it(*, stream: bool) -> None:
    async with running() as rig:
        answer = await rig.ask(stream=stream)
    assert not [name for name in BESIDE if f'"{name}"' in answer.text]


async def test_a_refusal_by_the_ledger_keeps_code_facts_and_model() -> None:
    async with running(make_settings(fair_use=0, continuation=False)) as rig:
        answer = await rig.ask({"x-flatfee-workflow": "w"}, model="premium")
        receipt = await kept(rig, answer.headers["x-request-id"])
    assert (receipt["code"], receipt["model_requested"]) == ("fair_use_exhausted", "premium")
    assert receipt["facts"]["prompt_tokens"] > 0
    assert receipt["workflow"]["id"] == "w"


async def test_a_refusal_by_the_plan_keeps_the_model_and_one_of_an_unknown_model_does_not() -> None:
    async with running(make_settings(billing="suspended")) as rig:
        refused = await kept(rig, (await rig.ask(model="auto")).headers["x-request-id"])
        unknown = await kept(rig, (await rig.ask(model=SECRET)).headers["x-request-id"])
    assert (refused["code"], refused["model_requested"]) == ("billing_inactive", "auto")
    assert unknown["code"] == "model_not_found"
    assert SECRET not in json.dumps(unknown)


async def test_a_body_that_could_not_be_read_has_a_code_and_no_facts() -> None:
    async with running() as rig:
        answer = await rig.ask(messages="none")
        receipt = await kept(rig, answer.headers["x-request-id"])
    assert receipt["code"] == "invalid_request"
    assert "facts" not in receipt


async def test_a_request_that_no_route_answered_keeps_its_code() -> None:
    async with running(provider=ScriptedProvider(**{route["name"]: error(401) for route in ROUTES})) as rig:
        answer = await rig.ask()
        receipt = await kept(rig, answer.headers["x-request-id"])
    assert receipt["code"] == answer.json()["error"]["code"]
    assert receipt["facts"]["prompt_tokens"] > 0


async def test_reduced_receipts_keep_the_figures_of_a_request_and_none_of_its_flags() -> None:
    reduced = ReceiptsSettings(detail=ReceiptDetail.REDUCED)
    async with running(make_settings().model_copy(update={"receipts": reduced})) as rig:
        answer = await rig.ask({"x-flatfee-task": "edit"}, **FULL)
        receipt = await kept(rig, answer.headers["x-request-id"])
    assert set(receipt["facts"]) == {"prompt_tokens", "output_tokens", "choices"}


def test_a_reasoning_effort_that_could_be_a_sentence_is_not_kept() -> None:
    body = json.dumps({"model": "auto", "messages": [{"role": "user", "content": "x"}], "reasoning_effort": SECRET})
    assert Asked.of(read_ask({}, body.encode())).reasoning_effort == "other"
