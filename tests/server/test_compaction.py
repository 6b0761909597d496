"""Compaction in the gateway: which routes are asked the shorter request, and who is told of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from tests.server.compaction.conversations import agent, fields_of, tokens, unpaired, user, without_words
from tests.server.fakes import ScriptedProvider, error, make_settings, plain, route, streamed
from tests.server.fakes_gateway import Rig, running

from flatfee import Receipt
from flatfee.server.ask import read_ask
from flatfee.server.compaction.compact import compact as compact_messages
from flatfee.server.estimating import _sampled
from flatfee.server.inspecting.inspection import as_json
from flatfee.server.inspecting.supposing import Supposition, scene_of, suppose
from flatfee.server.settings import Settings
from flatfee.server.stages import compact
from flatfee.wire import ReceiptDetail

COMPACTION = {"over": 15_000, "to": 10_000, "keep_turns": 3}
RUN = agent(60, size=2400)
ROUTES = [route("first"), route("thrifty", "economy", priority=1), route("second-thrifty", "economy", priority=2)]


def compacting(
    *, premium_behind: bool = False, routes: Any = ROUTES, compaction: Any = COMPACTION, **plan: Any
) -> Settings:
    policy = {"compaction": compaction, "economy_may_use_premium": premium_behind}
    return make_settings(routes=routes, policy=policy, **plan)


async def served(rig: Rig, **body: Any) -> tuple[list[Any], dict[str, Any]]:
    """Send the run; return the messages that each route was asked, and the receipt of the answer's body."""
    response = await rig.ask(messages=RUN, **body)
    kept = await rig.receipt(response)
    assert response.json()["flatfee"] == kept
    return [asked["messages"] for _, asked in rig.provider.asked], kept


async def test_a_long_request_for_economy_is_compacted_and_the_receipt_tells() -> None:
    async with running(compacting()) as rig:
        [sent], receipt = await served(rig, model="economy", temperature=0.5)
    assert unpaired(sent) == []
    assert without_words(sent) == without_words(RUN)
    figures = receipt["compaction"]
    assert figures["messages"] == sum(old != new for old, new in zip(RUN, sent, strict=True))
    assert figures["prompt_tokens"] - figures["saved_tokens"] <= COMPACTION["over"]
    assert len(json.dumps(sent)) < len(json.dumps(RUN)) * 0.7
    assert rig.provider.asked[0][1]["temperature"] == 0.5
    assert receipt["lane"] == "budget"
    saved = f"with about {figures['saved_tokens']:,} tokens of old tool results left out"
    assert saved in Receipt.model_validate(receipt).explain()


async def test_a_run_of_two_hundred_turns_is_served_within_bounds_and_on_a_prompt_that_rarely_changes() -> None:
    run = agent(200, size=2400)
    over = {**COMPACTION, "over": 40_000, "to": 28_000}
    ends = [place for place, message in enumerate(run) if message["role"] == "assistant"][40::6]
    async with running(compacting(compaction=over)) as rig:
        receipts = [await rig.receipt(await rig.ask(model="economy", messages=run[:end])) for end in ends]
    sent = [asked["messages"] for _, asked in rig.provider.asked]
    figures = [receipt.get("compaction", {"prompt_tokens": 0, "saved_tokens": 0}) for receipt in receipts]
    assert [problem for messages in sent for problem in unpaired(messages)] == []
    assert all(told["prompt_tokens"] - told["saved_tokens"] <= over["over"] for told in figures)
    assert figures[-1]["saved_tokens"] > over["over"]
    assert 1 <= sum(later[: len(first)] != first for first, later in pairwise(sent)) < len(sent) / 3


async def test_without_the_setting_below_the_size_and_on_premium_nothing_changes() -> None:
    async with running(make_settings()) as rig:
        [sent], receipt = await served(rig, model="economy")
    assert sent == RUN
    assert "compaction" not in receipt
    async with running(compacting()) as rig:
        [sent], receipt = await served(rig, model="premium")
        short = await rig.ask(model="economy", messages=RUN[:8])
        kept = await rig.receipt(short)
    assert sent == RUN
    assert rig.provider.asked[1][1]["messages"] == RUN[:8]
    assert "compaction" not in receipt | kept


async def test_what_has_no_old_tool_results_goes_as_it_came() -> None:
    talk = [user("word " * 20_000)]
    async with running(compacting()) as rig:
        response = await rig.ask(model="economy", messages=talk)
        kept = await rig.receipt(response)
    assert rig.provider.asked[0][1]["messages"] == talk
    assert "compaction" not in kept


async def test_continuation_is_compacted() -> None:
    async with running(compacting(fair_use=1)) as rig:
        [sent], receipt = await served(rig, model="premium")
    assert receipt["lane"] == "continuation"
    assert receipt["compaction"]["saved_tokens"] > 0
    assert sent != RUN


async def test_a_fallback_from_premium_has_all_of_the_request() -> None:
    async with running(compacting(), ScriptedProvider(first=error(529))) as rig:
        sent, receipt = await served(rig, model="premium")
    assert (receipt["lane"], receipt["tier"]) == ("fallback", "economy")
    assert all(messages == RUN for messages in sent)
    assert "compaction" not in receipt


async def test_of_a_budget_chain_economy_is_asked_less_and_premium_all() -> None:
    failing = ScriptedProvider(thrifty=error(529), second_thrifty=error(529))
    async with running(compacting(premium_behind=True), failing) as rig:
        sent, receipt = await served(rig, model="economy")
    assert rig.provider.routes[-1] == "first"
    assert sent[-1] == RUN
    assert all(messages == sent[0] != RUN for messages in sent[:-1])
    assert "compaction" not in receipt


async def test_the_next_economy_route_is_asked_the_same_and_a_stream_tells_too() -> None:
    async with running(compacting(), ScriptedProvider(thrifty=error(529), second_thrifty=streamed())) as rig:
        response = await rig.ask(model="economy", messages=RUN, stream=True)
        kept = await rig.receipt(response)
    sent = [asked["messages"] for _, asked in rig.provider.asked]
    assert rig.provider.routes[-1] == "second-thrifty"
    assert all(messages == sent[0] for messages in sent)
    assert (kept["lane"], kept["compaction"]["messages"] > 0) == ("fallback", True)
    assert f'"saved_tokens":{kept["compaction"]["saved_tokens"]}'.encode() in response.content


SMALL = [route("first"), route("thrifty", "economy", context_tokens=18_000)]


async def test_a_request_that_fits_a_route_only_compacted_is_served_by_it() -> None:
    async with running(compacting(routes=SMALL)) as rig:
        [sent], receipt = await served(rig, model="economy")
        dry = await rig.client.post("/v1/route", json={"model": "economy", "messages": RUN})
    assert (receipt["lane"], receipt["route"]) == ("budget", "thrifty")
    assert receipt["compaction"]["prompt_tokens"] > 18_000
    assert sent != RUN
    assert dry.json()["route"] == "thrifty"


async def test_a_request_that_fits_no_route_even_compacted_is_refused() -> None:
    tiny = [route("first"), route("thrifty", "economy", context_tokens=3_000)]
    async with running(compacting(routes=tiny)) as rig:
        response = await rig.ask(model="economy", messages=RUN)
        talk = await rig.ask(model="economy", messages=[user("word " * 20_000)])
    assert response.status_code == talk.status_code == 400
    assert rig.provider.asked == []


async def test_premium_does_not_fall_back_on_a_route_that_holds_only_what_is_compacted() -> None:
    async with running(compacting(routes=SMALL), ScriptedProvider(first=error(529))) as rig:
        response = await rig.ask(model="premium", messages=RUN)
        dry = await rig.client.post("/v1/route", json={"model": "premium", "messages": RUN})
    assert "a fallback is asked all of them" in dry.json()["ineligible"][0]["because"]
    assert set(rig.provider.routes) == {"first"}
    assert response.status_code == 503


async def test_without_counts_of_the_provider_the_estimate_is_of_what_was_sent() -> None:
    async with running(compacting(), ScriptedProvider(thrifty=plain(usage=None))) as rig:
        _, receipt = await served(rig, model="economy")
    figures = receipt["compaction"]
    assert receipt["state"] == "estimated"
    assert receipt["usage"]["prompt_tokens"] == figures["prompt_tokens"] - figures["saved_tokens"]


def as_no_sample_tells(count: int) -> bytes:
    """Return messages whose results are digits, but for the bytes that the estimate of the whole looks at."""
    results = [b'{"role":"tool","tool_call_id":"x","content":"%b"}' % (b"7" * 3000)] * count
    messages = bytearray(b",".join([b'[{"role":"user","content":"Go."}', *results, b'{"role":"assistant"}]']))
    places: Any = list(range(len(messages)))
    for place in _sampled(places):
        if messages[place] == ord("7"):
            messages[place] = ord(" ")
    return bytes(messages)


async def test_more_is_never_left_out_than_the_request_was_estimated_at() -> None:
    settings = compacting(compaction={"over": 5000, "to": 3000, "keep_turns": 1})
    async with running(settings, ScriptedProvider(thrifty=plain(usage=None))) as rig:
        content = b'{"model":"economy","messages":%b}' % as_no_sample_tells(200)
        kept = await rig.receipt(await rig.client.post("/v1/chat/completions", content=content))
    assert kept["compaction"]["messages"] > 100
    assert 0 <= kept["compaction"]["saved_tokens"] < kept["compaction"]["prompt_tokens"] < 100_000
    assert kept["usage"]["prompt_tokens"] > 0


async def test_a_request_is_counted_message_by_message_where_the_estimate_of_the_whole_is_just_below() -> None:
    """Else one that was compacted a step ago might not be now, and the provider's cache of it would be lost."""
    run = agent(80, size=1570)
    over = 38_000
    async with running(compacting(compaction={"over": over, "to": 30_000, "keep_turns": 3})) as rig:
        kept = await rig.receipt(await rig.ask(model="economy", messages=run))
    assert kept["compaction"]["prompt_tokens"] < over < tokens(fields_of(run))
    assert rig.provider.asked[0][1]["messages"] != run


async def test_a_refusal_tells_of_no_compaction() -> None:
    async with running(compacting(), ScriptedProvider(thrifty=error(400), second_thrifty=error(400))) as rig:
        response = await rig.ask(model="economy", messages=RUN)
    assert "compaction" not in response.json()["flatfee"]


async def test_a_dry_run_tells_what_would_be_left_out() -> None:
    async with running(compacting()) as rig:
        answers = [
            await rig.client.post("/v1/route", json={"model": model, "messages": RUN})
            for model in ("economy", "premium")
        ]
        _, receipt = await served(rig, model="economy")
    economy, premium = [answer.json()["estimate"] for answer in answers]
    assert economy["saved_tokens"] == receipt["compaction"]["saved_tokens"]
    assert economy["prompt_tokens"] == receipt["compaction"]["prompt_tokens"]
    assert "saved_tokens" not in premium


@pytest.mark.parametrize(
    ("model", "routes", "fair_use"),
    [("economy", ROUTES, 100_000), ("economy", SMALL, 100_000), ("premium", SMALL, 100_000), ("premium", SMALL, 0)],
)
async def test_a_file_tells_of_a_long_request_what_its_gateway_tells(model: str, routes: Any, fair_use: int) -> None:
    body = json.dumps({"model": model, "messages": RUN, "max_tokens": 2000}).encode()
    settings = compacting(routes=routes, fair_use=fair_use)
    async with running(settings) as rig:
        told = (await rig.client.post("/v1/route", content=body)).json()
        scene = scene_of(Supposition(), None, settings, datetime.now(UTC))
        assert as_json(suppose(read_ask({}, body), scene, settings)) == told
    assert ("saved_tokens" in told["estimate"]) is (told["tier"] == "economy")


async def test_what_was_compacted_to_plan_a_request_is_not_compacted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    def counted(*fields: Any, **limits: Any) -> Any:
        made.append(compact_messages(*fields, **limits))
        return made[-1]

    monkeypatch.setattr(compact, "compact", counted)
    async with running(compacting(routes=SMALL)) as rig:
        await served(rig, model="economy")
        await rig.client.post("/v1/route", json={"model": "economy", "messages": RUN})
    assert len(made) == 2


async def test_figures_stay_in_a_reduced_receipt() -> None:
    settings = compacting()
    reduced = settings.model_copy(
        update={"receipts": settings.receipts.model_copy(update={"detail": ReceiptDetail.REDUCED})}
    )
    async with running(reduced) as rig:
        kept = await rig.receipt(await rig.ask(model="economy", messages=RUN))
    assert kept["compaction"]["saved_tokens"] > 0
    assert "route" not in kept


async def test_a_very_long_request_does_not_hold_up_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is gone through in a thread; the answer is the same."""
    async with running(compacting()) as rig:
        [at_once], _ = await served(rig, model="economy")
        monkeypatch.setattr("flatfee.server.stages.compact._AT_ONCE", 0)
        await rig.ask(model="economy", messages=RUN)
    assert rig.provider.asked[1][1]["messages"] == at_once
