"""Receipts: from headers, from bodies, out of anything, and in one sentence."""

import copy
import json
import pickle
import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatfee import ChatCompletion, Compaction, FairUse, Lane, Reason, Receipt, ReceiptState, WorkflowState
from flatfee.errors import from_wire
from flatfee.receipt import Attempt
from flatfee.wire import error_body

HEADERS = {
    "X-Flatfee-Request-Id": "req_1",
    "x-flatfee-lane": "fallback",
    "x-flatfee-reason": "provider_timeout",
    "x-flatfee-model": "gpt-5.1",
    "x-flatfee-route": "openai-premium",
    "x-flatfee-attempts": "2",
    "x-flatfee-fair-use-remaining": "90",
    "x-flatfee-fair-use-limit": "100",
    "x-flatfee-fair-use-reset": "2026-12-01T00:00:00Z",
    "x-flatfee-workflows-active": "1",
    "x-flatfee-workflows-limit": "4",
}
BODY: dict[str, Any] = {
    "request_id": "req_1",
    "lane": "fallback",
    "reason": "provider_timeout",
    "state": "settled",
    "model_requested": "auto",
    "model_served": "gpt-5.1",
    "route": "openai-premium",
    "tier": "premium",
    "fair_use": {"unit": "token", "charged": 1834, "remaining": 1998166, "limit": 2000000},
    "workflow": {"id": "run-42", "active": 1, "limit": 4},
    "usage": {"prompt_tokens": 1200, "completion_tokens": 634, "cached_tokens": 0},
    "attempts": [
        {"route": "azure-premium", "outcome": "timeout", "status": None, "duration_ms": 10003},
        {"route": "openai-premium", "outcome": "ok", "status": 200, "duration_ms": 2210},
    ],
    "created_at": "2026-11-22T12:00:00Z",
}


def test_headers_tell_what_is_known_before_the_body() -> None:
    receipt: Any = Receipt.from_headers(HEADERS)
    assert (receipt.request_id, receipt.lane, receipt.reason) == ("req_1", Lane.FALLBACK, Reason.PROVIDER_TIMEOUT)
    assert (receipt.model_served, receipt.route, receipt.attempt_count) == ("gpt-5.1", "openai-premium", 2)
    assert (receipt.fair_use_remaining, receipt.fair_use.limit, receipt.fair_use.resets_at.month) == (90, 100, 12)
    assert (receipt.workflow.active, receipt.workflow.limit) == (1, 4)
    assert receipt.state is None


def test_headers_of_others_tell_nothing() -> None:
    assert Receipt.from_headers({"x-flatfee-lane": "premium"}) is None
    assert Receipt.from_headers({}) is None


def test_a_figure_that_is_none_is_left_out() -> None:
    headers = HEADERS | {"x-flatfee-fair-use-remaining": "lots", "x-flatfee-fair-use-reset": "soon"}
    receipt: Any = Receipt.from_headers(headers)
    assert receipt.fair_use_remaining is None
    assert receipt.fair_use.limit == 100
    assert Receipt.from_headers({"x-flatfee-request-id": "r"}) == Receipt(request_id="r")


def test_a_body_tells_everything() -> None:
    receipt: Any = Receipt.from_body({"flatfee": BODY})
    assert receipt.state is ReceiptState.SETTLED
    assert receipt.usage.completion_tokens == 634
    assert [attempt.outcome for attempt in receipt.attempts] == ["timeout", "ok"]
    assert json.loads(receipt.model_dump_json(exclude_unset=True)) == BODY


@pytest.mark.parametrize("body", [None, [], "x", {}, {"flatfee": None}, {"flatfee": {}}, {"flatfee": {"lane": 7}}])
def test_a_body_without_a_receipt_tells_nothing(body: Any) -> None:
    assert Receipt.from_body(body) is None


@pytest.mark.parametrize(
    ("odd", "left"),
    [
        ({"attempts": "many"}, {}),
        ({"attempts": [7, {"route": "a", "outcome": "ok", "status": "x"}, {"outcome": "ok"}]}, {"attempts": 1}),
        ({"fair_use": {"charged": "lots", "remaining": 3}}, {"fair_use": FairUse(remaining=3)}),
        ({"lane": 7, "usage": [1]}, {}),
        ({"created_at": "soon", 5: 6}, {}),
    ],
)
def test_an_odd_value_in_a_body_is_left_out_and_the_rest_is_kept(odd: Any, left: Any) -> None:
    receipt: Any = Receipt.from_body({"flatfee": {"request_id": "req_1", "new": 1, **odd}})
    if "attempts" in left:
        assert receipt.attempts == (Attempt(route="a", outcome="ok"),)
    else:
        assert receipt == Receipt.model_validate({"request_id": "req_1", "new": 1, **left})


@pytest.mark.parametrize("edge", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"])
def test_a_time_that_has_no_place_in_utc_is_left_out(edge: Any) -> None:
    for receipt in (
        Receipt.from_headers(HEADERS | {"x-flatfee-fair-use-reset": edge}),
        Receipt.from_body({"flatfee": {"fair_use": {"remaining": 90, "resets_at": edge}, "created_at": edge}}),
    ):
        assert receipt is not None
        assert receipt.fair_use is not None
        assert (receipt.fair_use.resets_at, receipt.created_at) == (None, None)
        assert "90" in receipt.explain()
    with pytest.raises(ValueError, match="before the first year or after the last"):
        FairUse.model_validate({"resets_at": edge})


@pytest.mark.parametrize("text", ["2026-12-01T00:00:00", "2026-12-01T00:00:00Z", "2026-12-01T02:00:00+02:00"])
def test_a_time_without_a_zone_is_in_utc(text: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        from_headers: Any = Receipt.from_headers(HEADERS | {"x-flatfee-fair-use-reset": text})
        from_body: Any = Receipt.from_body({"flatfee": {"fair_use": {"remaining": 90, "resets_at": text}}})
        for receipt in (from_headers, from_body):
            assert receipt.fair_use.resets_at == datetime(2026, 12, 1, tzinfo=UTC)
            assert "until 2026-12-01 00:00 UTC" in receipt.explain()
    finally:
        monkeypatch.undo()
        time.tzset()


def test_lanes_reasons_and_fields_of_tomorrow_are_kept() -> None:
    receipt: Any = Receipt.from_body({"flatfee": {"lane": "warp", "reason": "mood", "state": "frozen", "new": [1]}})
    assert (receipt.lane, receipt.reason, receipt.state) == ("warp", "mood", "frozen")
    assert receipt.model_extra == {"new": [1]}
    assert receipt.explain() == "Served on the warp lane because mood."


def test_what_comes_later_is_laid_over_what_was_known() -> None:
    early: Any = Receipt.from_headers(HEADERS)
    merged: Any = early.merge(Receipt.from_body({"flatfee": {"state": "settled", "lane": "premium", "new": 1}}))
    assert (merged.lane, merged.state, merged.route, merged.new) == ("premium", "settled", "openai-premium", 1)
    assert early.lane == "fallback"
    assert early.merge(None) is early


def test_parts_are_merged_field_by_field_and_null_covers_nothing() -> None:
    early: Any = Receipt.from_headers(HEADERS)
    later = {"fair_use": {"charged": 7, "remaining": 83, "limit": None}, "workflow": {"id": "run-42"}, "usage": None}
    merged: Any = early.merge(Receipt.from_body({"flatfee": later | {"lane": None, "state": "settled"}}))
    assert (merged.fair_use.charged, merged.fair_use.remaining, merged.fair_use.limit) == (7, 83, 100)
    assert merged.fair_use.resets_at == early.fair_use.resets_at
    assert (merged.workflow.id, merged.workflow.active, merged.workflow.limit) == ("run-42", 1, 4)
    assert (merged.usage, merged.lane) == (None, "fallback")


def test_a_receipt_is_a_value() -> None:
    receipt: Any = Receipt.from_body({"flatfee": BODY})
    for again in (pickle.loads(pickle.dumps(receipt)), copy.deepcopy(receipt)):
        assert again == receipt
    with pytest.raises(ValueError, match="frozen"):
        receipt.lane = "premium"


COMPLETION = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}],
    "flatfee": BODY,
}


def test_of_finds_the_receipt_in_whatever_carries_it() -> None:
    receipt: Any = Receipt.from_body({"flatfee": BODY})
    response = httpx.Response(200, json=COMPLETION)
    unread = httpx.Response(200, headers=HEADERS, stream=httpx.ByteStream(b"x"))
    for source in (
        receipt,
        ChatCompletion.model_validate(COMPLETION),
        COMPLETION,
        BODY,
        ChatCompletion.model_validate(COMPLETION).model_extra["flatfee"],  # type: ignore[index]  # it has extras
        response,
        SimpleNamespace(flatfee=receipt),
        SimpleNamespace(body=COMPLETION),
        SimpleNamespace(response=httpx.Response(200, json=COMPLETION, headers={"x-flatfee-request-id": "req_1"})),
        from_wire(503, {}, error_body("fallback_exhausted", "x", receipt=BODY)),
    ):
        assert Receipt.of(source) == receipt
    assert Receipt.of(unread) == Receipt.from_headers(HEADERS)
    told: Any = Receipt.of(httpx.Response(200, headers=HEADERS, json=COMPLETION))
    assert (told.state, told.workflow.id, told.fair_use.resets_at.month) == ("settled", "run-42", 12)
    assert Receipt.of(httpx.Response(200, headers=HEADERS, text="no json")) == Receipt.from_headers(HEADERS)


async def _later() -> Any:
    return COMPLETION


@pytest.mark.parametrize(
    "source",
    [
        None,
        7,
        "text",
        object(),
        SimpleNamespace(headers="x"),
        ValueError("x"),
        {"request_id": "req_1"},
        {"lane": "premium"},
        SimpleNamespace(headers={}, json=_later),
    ],
)
def test_of_finds_nothing_where_there_is_nothing(source: Any) -> None:
    assert Receipt.of(source) is None


def test_of_walks_the_causes_of_an_exception() -> None:
    original = from_wire(503, HEADERS, error_body("fallback_exhausted", "x"))
    try:
        try:
            raise original
        except Exception as error:
            raise RuntimeError("wrapped once") from error
    except RuntimeError as error:
        caught = ValueError("wrapped twice")
        caught.__context__ = error
    assert Receipt.of(caught) == Receipt.from_headers(HEADERS)


def test_a_ring_of_causes_ends() -> None:
    one, two = ValueError(), ValueError()
    one.__cause__, two.__cause__ = two, one
    assert Receipt.of(one) is None


def test_of_reads_what_openai_python_returns_and_raises() -> None:
    openai = pytest.importorskip("openai")
    completion = openai.types.chat.ChatCompletion.model_validate(COMPLETION)
    assert Receipt.of(completion) == Receipt.from_body({"flatfee": BODY})

    httpx2 = pytest.importorskip("httpx2")
    body = error_body("fallback_exhausted", "x", receipt=BODY)
    response = httpx2.Response(
        503, headers=HEADERS, json=body, request=httpx2.Request("POST", "http://gateway.test/v1/chat/completions")
    )
    error = openai.InternalServerError("x", response=response, body=body["error"])
    found: Any = Receipt.of(error)
    assert (found.lane, len(found.attempts)) == ("fallback", 2)


@pytest.mark.parametrize("lane", [*Lane, None])
@pytest.mark.parametrize("state", [*ReceiptState, None])
def test_every_lane_and_state_is_explained_in_one_sentence(lane: Any, state: Any) -> None:
    told = Receipt(lane=lane, state=state, reason=Reason.DEFAULT, fair_use=FairUse(charged=1, remaining=2)).explain()
    assert told.endswith(".")
    assert (str(lane) in told) or lane is None
    begins = {"refused": "Refused", "in_flight": "Running", None: "Routed to" if lane else "The request was not routed"}
    assert told.startswith(begins.get(state, "Served"))
    assert ("about 1 unit charged" in told) is (state == "estimated")


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_words_of_its_own(reason: Any) -> None:
    assert f"because {reason}" not in Receipt(reason=reason).explain()


def test_the_default_is_put_so_that_it_holds_for_an_operators_rule_too() -> None:
    told = Receipt(lane="budget", reason="default", state="settled").explain()
    assert told == "Served on the budget lane because the gateway's policy says so."


def test_the_sentence_in_full() -> None:
    receipt: Any = Receipt.from_body(
        {"flatfee": BODY | {"fair_use": BODY["fair_use"] | {"resets_at": "2026-12-01T00:00:00Z"}}}
    )
    assert receipt.explain() == (
        "Served on the fallback lane by gpt-5.1 via openai-premium because the first choice was silent for too long "
        "after 2 attempts; 1,834 units charged, 1,998,166 of 2,000,000 left until 2026-12-01 00:00 UTC."
    )
    counted = Receipt(lane="premium", state="settled", fair_use=FairUse(unit="request", charged=1, remaining=9))
    assert counted.explain() == "Served on the premium lane; 1 request charged, 9 left."
    assert Receipt(state="settled", attempts=(Attempt(route="a", outcome="ok"),), fair_use=FairUse()).explain() == (
        "Served on an untold lane."
    )
    shorter = Receipt(lane="budget", state="settled", compaction=Compaction(saved_tokens=51234))
    assert shorter.explain() == ("Served on the budget lane, with about 51,234 tokens of old tool results left out.")
    assert Receipt.from_object({"lane": "budget", "compaction": {"saved_tokens": "many"}}) == Receipt(
        lane="budget", compaction=Compaction()
    )
    assert Receipt(attempt_count=3, workflow=WorkflowState(id="x")).explain().endswith("after 3 attempts.")


def test_what_was_not_served_is_not_said_to_be() -> None:
    headers: Any = Receipt.from_headers({"x-flatfee-request-id": "req_1"})
    assert headers.explain() == "Request req_1 was not routed."
    routed: Any = Receipt.from_headers(HEADERS)
    assert routed.explain().startswith("Routed to the fallback lane by gpt-5.1 via openai-premium because")
    assert Receipt(route="a").explain() == "Routed to an untold lane by a."


@given(st.dictionaries(st.sampled_from(sorted(HEADERS)), st.text(max_size=12)))
def test_no_header_makes_reading_fail(headers: Any) -> None:
    receipt: Any = Receipt.from_headers(headers)
    assert receipt is None or receipt.explain()
