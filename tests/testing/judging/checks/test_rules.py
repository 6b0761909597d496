"""Each rule by entries made by hand: what breaks it, and what only looks so."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from tests.testing.staged import USER, called, chunk, noted

from flatfee.testing.judging.checks.base import Limits
from flatfee.testing.judging.entry import Entry
from flatfee.testing.judging.journal import Journal
from flatfee.testing.judging.verdicts import CHECKS, judge
from flatfee.wire import ErrorCode

STREAM = {"content-type": "text/event-stream"}
EVENT = b'data: {"error": {"code": "provider_unavailable", "message": "No."}}\n\n'
CUT_TEXT = "The answer is forty-two, becau"


def broken(*entries: Entry, **limits: Any) -> str:
    """The rules that a client broke, in one string."""
    return " ".join(judge(Journal(entries), Limits(**limits)).rules)


def message(*entries: Entry, **limits: Any) -> str:
    (violation,) = judge(Journal(entries), Limits(**limits)).violations
    return violation.message


def streamed(number: int, at: float, answer: bytes, **facts: Any) -> Entry:
    asked = {"stream": True, **facts.pop("asked", {})}
    return noted(number, at, answer=answer, told=STREAM, asked=asked, **facts)


# final_error


@pytest.mark.parametrize("code", [code for code in ErrorCode if code not in {"conflict", "not_found"}])
def test_what_the_table_calls_final_may_not_be_tried_again_and_the_rest_may(code: ErrorCode) -> None:
    from flatfee.wire import ERRORS

    first, then = noted(1, code=code), noted(2, 5.0)
    assert broken(first, then) == ("" if ERRORS[code].retryable else "final_error")


def test_a_final_error_is_named_with_its_cure() -> None:
    told = message(noted(1, code=ErrorCode.FALLBACK_EXHAUSTED), noted(2, 0.6), noted(3, 5.0, code="invalid_request"))
    assert told == (
        "#2 sent #1 again 0.50 s after 503 fallback_exhausted, which is final (x-should-retry: false). "
        "Raise it to the caller instead of trying again."
    )


def test_a_final_error_without_a_header_is_known_by_its_code() -> None:
    assert broken(noted(1, code=ErrorCode.FALLBACK_EXHAUSTED, told={"x-should-retry": "true"}), noted(2, 5.0))


def test_a_violation_says_its_rule_and_names_its_first_requests() -> None:
    loop = [noted(n, n * 2.0, code="conflict") for n in range(1, 14)]
    (violation,) = judge(Journal(loop), Limits(skip=("tries",))).violations
    assert str(violation).startswith("final_error: #2 sent #1 again")
    assert "so did #3, #4, #5, #6, #7, #8, #9, #10 and 3 more" in violation.message
    told = violation.to_json()
    assert (told["rule"], told["requests"][:2], told["message"]) == ("final_error", ["#1", "#2"], violation.message)


def test_all_repetitions_of_a_final_error_are_one_violation() -> None:
    loop = [noted(number, number * 2.0, code=ErrorCode.BILLING_INACTIVE) for number in range(1, 6)]
    assert "so did #3, #4 and #5" in message(*loop)


@pytest.mark.parametrize(
    "change", [{"workflow": "b"}, {"asked": {"model": "economy"}}, {"key": "zzzz"}, {"era": 1}, {"number": 0}]
)
def test_another_request_after_a_final_error_is_no_repetition(change: dict[str, Any]) -> None:
    first = noted(1, code=ErrorCode.PERMISSION_DENIED, workflow="a", key="aaaa")
    facts: dict[str, Any] = {"workflow": "a", "key": "aaaa", "number": 2, **change}
    if facts["number"] == 0:
        facts |= {"method": "GET", "path": "/v1/usage"}
    assert broken(first, noted(at=5.0, **facts)) == ""


def test_a_spent_window_is_over_with_its_end() -> None:
    reset = {"x-flatfee-request-id": "req_1", "x-flatfee-fair-use-reset": "1970-01-01T01:00:00Z"}
    first = noted(1, code=ErrorCode.FAIR_USE_EXHAUSTED, told=reset)
    assert broken(first, noted(2, 3590.0)) == "final_error"
    assert broken(first, noted(2, 3601.0)) == ""


def test_an_expired_idempotency_key_is_cured_by_another() -> None:
    first = noted(1, code=ErrorCode.IDEMPOTENCY_EXPIRED, idempotency_key="a")
    assert broken(first, noted(2, 5.0, idempotency_key="b")) == ""
    assert broken(first, noted(2, 5.0, idempotency_key="a")) == "final_error"


def test_a_run_does_not_go_on_asking_for_what_its_account_cannot_pay() -> None:
    refused = noted(1, code=ErrorCode.FAIR_USE_EXHAUSTED, workflow="run")
    other = {"messages": [USER, USER]}
    again = noted(2, 5.0, code=ErrorCode.FAIR_USE_EXHAUSTED, workflow="run", asked=other)
    assert "#2 asked for model 'premium' again in workflow 'run'" in message(refused, again)
    served = noted(2, 5.0, workflow="run", asked=other)
    assert broken(refused, served) == ""


# retry_after


def test_a_try_waits_as_told() -> None:
    first = noted(1, code=ErrorCode.RATE_LIMITED, told={"retry-after": "2"})
    assert "#2 came 1.90 s after #1 got 429 rate_limited, which told to wait 2 s" in message(first, noted(2, 2.0))
    assert broken(first, noted(2, 2.06)) == ""
    assert broken(first, noted(2, 2.0), tolerance=0.2) == ""


def test_real_time_counts_where_the_gateways_clock_stands_still() -> None:
    first = noted(1, took=0.0, real_ended=0.1, code=ErrorCode.RATE_LIMITED)
    assert broken(first, noted(2, 0.0, real=1.2)) == ""
    assert broken(first, noted(2, 0.0, real=0.9)) == "retry_after"
    real = {1: 0.0, 2: 0.5, 3: 1.5, 4: 3.5}
    hasty = [noted(n, 0.0, took=0.0, real=at, real_ended=at, status=500, told={}) for n, at in real.items()]
    assert broken(*hasty, most_per_second=1) == ""


def test_milliseconds_come_first() -> None:
    first = noted(1, code=ErrorCode.RATE_LIMITED, told={"retry-after": "2", "retry-after-ms": "700"})
    assert broken(first, noted(2, 0.7)) == "retry_after"
    assert broken(first, noted(2, 0.9)) == ""


# backoff, tries, burst, parallel


def loop(*moments: float, **facts: Any) -> list[Entry]:
    """Tries that get 500 without a word about retries, each at once."""
    return [noted(n, at, status=500, took=0.0, told={}, **facts) for n, at in enumerate(moments, 1)]


@pytest.mark.parametrize(
    ("moments", "rules"),
    [
        ((0, 0.01), ""),  # one quick retry is no hammering
        ((0, 0.01, 0.02), "backoff"),
        ((0, 0.4, 1.2, 2.8), ""),
        ((0, 0.3, 0.6, 0.9), "backoff"),
        ((0, 0.3, 0.6), ""),
        ((0, 2, 4, 6), ""),  # steady, but slow
        (tuple(2.0**n for n in range(7)), "tries"),
    ],
)
def test_waits_that_nobody_told_grow_and_end(moments: tuple[float, ...], rules: str) -> None:
    assert broken(*loop(*moments)) == rules


def test_a_wait_begins_with_the_end_of_a_stream_and_with_the_head_of_a_refusal() -> None:
    tries = [streamed(n, n * 5.0, EVENT, first_byte=n * 5.0 + 0.1, took=4.99) for n in (1, 2, 3)]
    assert broken(*tries) == "backoff"
    refused = noted(1, code=ErrorCode.RATE_LIMITED, told={"retry-after": "3"}, first_byte=0.1, took=2.0)
    assert broken(refused, noted(2, 3.2)) == ""


def test_what_is_hasty_may_be_told() -> None:
    assert broken(*loop(0, 0.3, 0.6, 0.9), steady_wait=0.2) == ""
    assert broken(*loop(0, 0.01, 0.02), shortest_wait=0.005) == ""
    assert broken(*loop(*(2.0**n for n in range(7))), most_tries=7) == ""


def test_a_hung_up_try_counts_as_one() -> None:
    hasty = [noted(n, n * 0.2, took=0.19, status=None, left=True) for n in range(1, 5)]
    assert broken(*hasty) == "backoff"


def test_retries_of_many_calls_do_not_come_in_a_burst() -> None:
    firsts = [entry for n in range(11) for entry in loop(0.0, workflow=f"w{n}")]
    seconds = [noted(20 + n, 0.5 + n / 100, workflow=f"w{n}") for n in range(11)]
    assert "11 retries came within a second from 0.50 s on" in message(*firsts, *seconds)
    assert broken(*firsts, *seconds[:10]) == ""
    assert broken(*firsts, *seconds, most_per_second=11) == ""


def test_a_herd_that_waited_as_told_is_no_burst() -> None:
    firsts = [noted(n, code=ErrorCode.RATE_LIMITED, workflow=f"w{n}") for n in range(20)]
    assert broken(*firsts, *(noted(n + 20, 1.2, workflow=f"w{n}") for n in range(20))) == ""


def test_a_call_is_not_sent_again_while_it_runs() -> None:
    first, then = noted(1, took=3.0, idempotency_key="a"), noted(2, 1.0, idempotency_key="a")
    assert "#2 was sent with the Idempotency-Key of #1 at 1.00 s, while that ran until 3.00 s" in message(first, then)
    assert broken(first, noted(2, 1.0, idempotency_key="b")) == ""
    running = noted(1, took=None, status=None, idempotency_key="a")
    assert "while that still runs" in message(running, then)


def test_a_caller_that_hung_up_may_go_on_before_the_gateway_noticed() -> None:
    first = noted(1, took=1.1, status=None, left=True, idempotency_key="a")
    assert broken(first, noted(2, 1.0, idempotency_key="a")) == ""


# gave_up


def test_giving_up_is_wrong_only_if_the_test_says_so() -> None:
    limited = noted(1, code=ErrorCode.RATE_LIMITED)
    assert broken(limited) == ""
    assert "gave up after 1 try" in message(limited, must_retry=True)
    assert broken(limited, noted(2, 1.2), must_retry=True) == ""
    assert broken(noted(1, code=ErrorCode.INVALID_REQUEST), must_retry=True) == ""


# open_stream


def test_an_open_stream_is_named_with_what_was_read_of_it() -> None:
    assert "The stream of #1 is still open, 0 bytes after" in message(streamed(1, 0.0, b"", took=None))
    unread = streamed(1, 0.0, b"x", took=None, unread_since=2.5)
    assert "nothing of it was read since 2.50 s" in message(unread)
    assert broken(noted(1, took=None, status=None)) == ""
    assert broken(streamed(1, 0.0, b"x", left=True)) == ""


# truncation


def conversation(answer: str, *more: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [USER, {"role": "assistant", "content": answer}, *(more or [USER])]}


def test_a_cut_text_is_not_built_upon() -> None:
    failed = streamed(1, 0.0, chunk(content=CUT_TEXT) + EVENT)
    told = message(failed, noted(2, 5.0, asked=conversation(CUT_TEXT)))
    assert "#2 went on with the text of #1, which ended in an error provider_unavailable in mid-stream" in told
    assert CUT_TEXT not in told


@pytest.mark.parametrize(
    ("answer", "facts"), [(chunk(content=CUT_TEXT) + EVENT, {}), (chunk(content=CUT_TEXT), {"cut": True})]
)
def test_a_text_is_cut_by_an_error_or_by_the_end_of_the_connection(answer: bytes, facts: dict[str, Any]) -> None:
    failed = streamed(1, 0.0, answer, **facts)
    assert broken(failed, noted(2, 5.0, asked=conversation(CUT_TEXT))) == "truncation"
    assert broken(failed, noted(2, 5.0, asked=conversation(CUT_TEXT[:25]))) == "truncation"
    assert broken(failed, noted(2, 5.0, asked=conversation("The"))) == ""


def test_a_cut_answer_may_be_continued_asked_again_or_left() -> None:
    failed = streamed(1, 0.0, chunk(content=CUT_TEXT) + EVENT)
    prefill = {"messages": [USER, {"role": "assistant", "content": CUT_TEXT}]}
    assert broken(failed, noted(2, 5.0, asked=prefill)) == ""
    left = streamed(1, 0.0, chunk(content=CUT_TEXT), left=True)
    assert broken(left, noted(2, 5.0, asked=conversation(CUT_TEXT))) == ""
    whole = streamed(2, 5.0, chunk(content=CUT_TEXT) + b"data: [DONE]\n\n")
    assert broken(failed, whole, noted(3, 9.0, asked=conversation(CUT_TEXT))) == ""


@pytest.mark.parametrize(
    ("cut", "said", "rules"),
    [
        ("It is", " It is\n", "truncation"),
        ("It is", "It", ""),
        ("It is", "It is so.", ""),
        (CUT_TEXT, f"{CUT_TEXT}se.", ""),
        (CUT_TEXT, f"{CUT_TEXT[:22]}, no more", ""),
        ("", "", ""),
    ],
)
def test_a_cut_text_is_known_by_all_of_it_or_by_a_long_beginning(cut: str, said: str, rules: str) -> None:
    failed = streamed(1, 0.0, chunk(content=cut) + EVENT)
    assert broken(failed, noted(2, 5.0, asked=conversation(said))) == rules


def test_a_whole_run_upon_a_cut_answer_is_one_violation() -> None:
    failed = streamed(1, 0.0, chunk(content=CUT_TEXT) + EVENT)
    turns = [noted(n, n * 5.0, asked=conversation(CUT_TEXT, *[USER] * n)) for n in (2, 3, 4)]
    assert message(failed, *turns).startswith("#2, #3 and #4 went on with the text of #1")


def test_only_later_requests_of_the_same_key_go_on_with_a_cut_text() -> None:
    failed = streamed(2, 5.0, chunk(content=CUT_TEXT) + EVENT, key="aaaa")
    assert broken(noted(1, asked=conversation(CUT_TEXT), key="aaaa"), failed) == ""
    assert broken(failed, noted(3, 9.0, asked=conversation(CUT_TEXT), key="bbbb")) == ""


def test_an_answer_whose_finish_reason_came_is_whole() -> None:
    stop = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
    cut = streamed(1, 0.0, chunk(content=CUT_TEXT) + stop, cut=True)
    assert broken(cut, noted(2, 5.0, asked=conversation(CUT_TEXT))) == ""


def test_a_tool_whose_call_was_cut_is_not_run() -> None:
    failed = streamed(1, 0.0, chunk(tool_calls=[called('{"amount": 10')]) + EVENT)
    result = {"role": "tool", "tool_call_id": "call-1", "content": "paid"}
    then = noted(2, 5.0, asked={"messages": [USER, {"role": "assistant", "content": None}, result]})
    assert "#2 had the result of the tool pay, whose call in #1 ended in" in message(failed, then)
    assert broken(failed, noted(2, 5.0, asked={"messages": [USER, {**result, "tool_call_id": "call-2"}]})) == ""


# deadline


def test_no_try_begins_past_the_deadline() -> None:
    first = noted(1, code=ErrorCode.RATE_LIMITED, deadline=1500)
    assert "#2 came 2.00 s after #1, whose deadline of 1.50 s" in message(first, noted(2, 2.0, deadline=1))
    assert broken(first, noted(2, 1.4, deadline=100)) == ""


@pytest.mark.parametrize(("told", "rules"), [(1500, "deadline"), (100, ""), (None, "deadline"), (130, "")])
def test_each_try_tells_what_is_left(told: int | None, rules: str) -> None:
    first = noted(1, code=ErrorCode.RATE_LIMITED, deadline=1500, idempotency_key="a")
    assert broken(first, noted(2, 1.4, deadline=told, idempotency_key="a")) == rules


def test_who_tells_a_deadline_late_breaks_no_promise() -> None:
    limited = ErrorCode.RATE_LIMITED
    assert broken(noted(1, code=limited), noted(2, 1.2, code=limited, deadline=500), noted(3, 2.4)) == ""


def test_time_that_only_the_gateway_saw_is_not_held_against_the_client() -> None:
    first = noted(1, code=ErrorCode.RATE_LIMITED, deadline=1500)
    assert broken(first, noted(2, 60.0, real=1.2, deadline=310)) == ""


def test_a_deadline_that_never_changes_is_seen_in_the_gateways_time() -> None:
    first = noted(1, code=ErrorCode.RATE_LIMITED, deadline=60_000, real_ended=0.0)
    assert broken(first, noted(2, 1.2, real=0.002, deadline=60_000)) == "deadline"
    assert broken(first, noted(2, 1.2, real=0.002, deadline=59_999)) == ""
    assert broken(first, noted(2, 1.2, real=0.002, deadline=60_001)) == "deadline"
    assert broken(first, noted(2, 1.2, real=0.0, deadline=60_000)) == ""


def test_another_key_is_another_deadline() -> None:
    first = noted(1, code=ErrorCode.RATE_LIMITED, deadline=1500, idempotency_key="a")
    assert broken(first, noted(2, 5.0, deadline=1500, idempotency_key="b")) == ""


# idempotency


def test_a_key_belongs_to_one_body() -> None:
    first, then = noted(1, idempotency_key="a"), noted(2, 5.0, idempotency_key="a", asked={"n": 2})
    assert "#2 has the Idempotency-Key of #1 and another body" in message(first, then)
    assert broken(first, noted(2, 5.0, idempotency_key="a", asked={"n": 2}, key="zzzz")) == ""


@pytest.mark.parametrize(("key", "rules"), [("a", ""), ("b", "idempotency"), (None, "idempotency")])
def test_a_key_stays_when_nobody_knows_how_it_ended(key: str | None, rules: str) -> None:
    first = noted(1, status=None, answer=b"", cut=True, idempotency_key="a")
    assert broken(first, noted(2, 5.0, idempotency_key=key)) == rules


def test_a_proxys_failure_tells_nothing_of_the_gateway() -> None:
    first = noted(1, status=502, idempotency_key="a")
    assert broken(first, noted(2, 5.0, idempotency_key="b")) == "idempotency"
    own = noted(1, status=502, told={"x-flatfee-request-id": "req_1"}, idempotency_key="a")
    assert broken(own, noted(2, 5.0, idempotency_key="b")) == ""


def test_what_may_have_been_served_needs_a_key_if_the_test_says_so() -> None:
    first, then = noted(1, status=None, answer=b"", cut=True), noted(2, 5.0)
    assert broken(first, then) == ""
    assert "#2 sent #1 again after a cut connection, without its Idempotency-Key" in message(first, then, must_key=True)
    assert broken(noted(1, code=ErrorCode.RATE_LIMITED), then, must_key=True) == ""
    asked: dict[str, Any] = {"method": "GET", "path": "/v1/usage", "number": 0}
    assert broken(noted(cut=True, **asked), noted(at=5.0, **asked), must_key=True) == ""


def test_a_stream_that_failed_midway_is_asked_anew_with_another_key() -> None:
    first = streamed(1, 0.0, chunk(content="The") + EVENT, idempotency_key="a")
    assert broken(first, streamed(2, 5.0, b"data: [DONE]\n\n", idempotency_key="b")) == ""


# slots, same_workflow


def release(workflow: str, at: float, status: int = 200) -> Entry:
    return noted(0, at, method="DELETE", path=f"/v1/workflows/{workflow}", status=status)


def test_workflows_are_released_by_who_releases_any() -> None:
    runs = [noted(1, workflow="a"), noted(2, 1.0, workflow="b")]
    assert broken(*runs) == ""
    assert "Workflow 'b', last used by #2, was not released" in message(*runs, release("a", 2.0))
    assert broken(*runs, release("a", 2.0), release("b", 2.0)) == ""
    assert broken(*runs, release("a", 2.0), slots=False) == ""


def test_all_workflows_are_released_if_the_test_says_so() -> None:
    assert broken(noted(1, workflow="a"), slots=True) == "slots"
    assert broken(noted(1), slots=True) == ""
    assert broken(noted(1, code=ErrorCode.WORKFLOW_LIMIT, workflow="a"), slots=True) == ""
    assert broken(noted(1, workflow="a"), release("a", 1.0, status=404), slots=True) == ""
    assert broken(noted(1, workflow="a"), release("a", 1.0, status=503), slots=True) == "slots"


def test_a_release_before_the_last_request_releases_nothing() -> None:
    assert broken(noted(1, workflow="a"), release("a", 1.0), noted(2, 2.0, workflow="a")) == "slots"


def test_a_workflow_that_holds_no_slot_needs_no_release() -> None:
    journal = Journal([noted(1, workflow="a")])
    assert judge(journal, Limits(slots=True), active=()).resilient
    assert not judge(journal, Limits(slots=True), active=["a"]).resilient


def test_a_run_keeps_its_name_at_the_limit_if_the_test_says_so() -> None:
    first = noted(1, code=ErrorCode.WORKFLOW_LIMIT, workflow="a")
    renamed = noted(2, 5.0, workflow="b")
    assert broken(first, renamed) == ""
    assert "#2 asked again as workflow 'b' what #1 had asked as 'a'" in message(first, renamed, same_workflow=True)
    assert broken(first, noted(2, 5.0, workflow="a"), same_workflow=True) == ""


# skip


def test_a_rule_may_be_skipped() -> None:
    assert broken(noted(1, code=ErrorCode.INVALID_REQUEST), noted(2, 5.0), skip=["final_error"]) == ""


def test_a_rule_that_does_not_exist_cannot_be_skipped() -> None:
    with pytest.raises(ValueError, match=r"no rule 'final_errors' to skip; use final_error\."):
        broken(skip=["final_errors"])


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"max_tries": 3}, "Limits has no 'max_tries'; did you mean 'most_tries'?"),
        ({"most_tries": 0}, "greater than or equal to 1"),
        ({"tolerance": -1}, "greater than or equal to 0"),
    ],
)
def test_an_impossible_limit_is_named(limits: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        broken(**limits)


def test_every_rule_is_described() -> None:
    assert all(check.__doc__ for check in CHECKS.values())
    assert json.dumps(judge(Journal([]), Limits()).to_json()) == '{"resilient": true, "violations": []}'
