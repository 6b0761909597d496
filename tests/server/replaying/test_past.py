"""What one line of an export tells, and how a wrong one is refused."""

from __future__ import annotations

import io
from typing import Any

import pytest
from tests.server.replaying.past import NOON, line, read, refused, tried

from flatfee.server.ids import moment_of, request_id
from flatfee.server.replaying.comparing import in_order
from flatfee.server.replaying.past import LONGEST_LINE, AccountLine, BadLine, Ending, read_line
from flatfee.server.replaying.reading import Reader


@pytest.mark.parametrize(
    ("attempts", "fields", "ending"),
    [
        ([tried("a")], {}, Ending.ANSWERED),
        ([tried("a", "refused", 400)], {}, Ending.DECLINED),
        ([tried("a", "cancelled")], {"state": "estimated", "route": "a"}, Ending.LEFT),
        ([tried("a", "error")], {"state": "estimated", "route": "a"}, Ending.BROKEN),
        ([tried("a", "error")], {"code": "fallback_exhausted"}, Ending.FAILED),
        ([tried("a", "context_overflow", 400)], {}, Ending.FAILED),
        ([tried("a", "error")], {"facts": None}, Ending.FAILED),
        ([tried("a", "error")], {"code": "deadline_exceeded"}, Ending.GONE),
    ],
)
def test_how_a_request_ended_is_read_off_its_last_try(
    attempts: list[dict[str, Any]], fields: dict[str, Any], ending: Ending
) -> None:
    [past] = read(line(0.0, *attempts, **fields))
    assert past.ending is ending


def test_a_refusal_came_when_it_was_refused() -> None:
    [past] = read(refused(2.5, "workflow_limit"))
    assert (past.ending, past.arrived, past.ended) == (Ending.REFUSED, NOON + 2.5, NOON + 2.5)


def test_an_old_refusal_came_when_its_id_was_made() -> None:
    [past] = read(line(3.0, lane=None, route=None, state="refused", created_at=None, ended_at=None))
    assert past.arrived == NOON + 3.0


def test_a_lost_requests_receipt_tells_no_tries() -> None:
    charged, void = read(line(attempts=None, state="estimated"), line(attempts=None, state="refused", route=None))
    assert (charged.ending, void.ending) == (Ending.ANSWERED, Ending.GONE)


def test_a_reduced_receipts_model_is_read_off_its_reason() -> None:
    kept = read(
        line(model_requested=None, reason="requested", lane="premium"),
        line(model_requested=None, reason="requested", lane="budget"),
        line(model_requested=None, reason="default"),
    )
    assert [past.model for past in kept] == ["premium", "economy", "auto"]


def test_pauses_are_what_no_try_accounts_for() -> None:
    [past] = read(line(0.0, tried("a", "error", 503, 60), tried("a", "error", 503, 60), tried("b", ms=100)))
    assert past.pauses == 1
    assert past.rest == pytest.approx(0.0, abs=1e-6)


def test_an_account_is_a_line_of_its_own() -> None:
    found = read_line(b'{"object": "account", "name": "acme", "plan": "pro", "billing_day": 3, "from_file": true}')
    assert found == AccountLine(name="acme", plan="pro", billing_day=3)


@pytest.mark.parametrize(
    ("text", "tells"),
    [
        (b"no", "is not a JSON object"),
        (b"[]", "flatfee receipts export"),
        (b'{"request_id": "req_1"}', "`account`"),
        (line(attempts=[{"route": "a", "outcome": "burnt"}]), "$.attempts[0].outcome"),
        (line(request_id="mine", created_at=None), "request_id 'mine'"),
        (b'{"object": "account", "name": "acme"}', "`plan`"),
        (b" " * (LONGEST_LINE + 1), "bytes"),
        (b'{"x":' + b"[" * 100_000, "is not a JSON object"),
    ],
)
def test_a_wrong_line_is_refused_with_its_field_and_the_cure(text: bytes, tells: str) -> None:
    with pytest.raises(BadLine) as caught:
        read_line(text)
    assert tells in str(caught.value)


def test_a_reader_names_the_line_and_keeps_accounts_apart() -> None:
    accounts: dict[str, AccountLine] = {}
    file = io.BytesIO(b'{"object": "account", "name": "a", "plan": "p"}\n' + line() + b"\n\nno\n")
    with pytest.raises(BadLine, match="line 4: is not a JSON object"):
        list(Reader(file, accounts))
    assert set(accounts) == {"a"}


def test_bad_lines_are_passed_over_and_counted_where_that_is_asked_for() -> None:
    long = b"x" * (2 * LONGEST_LINE + 5)
    reader = Reader(io.BytesIO(b"no\n" + long + b"\n" + line()), {}, skip_bad=True)
    assert len(list(reader)) == 1
    assert reader.skipped == 2


def test_lines_are_put_in_order_and_each_is_taken_once() -> None:
    late, early = read(line(0.0, number=2), line(-1.0, number=1))
    assert list(in_order([late, early, late])) == [early, late]


def test_lines_that_are_far_out_of_order_are_refused() -> None:
    pasts = read(*(line(number / 10, number=number) for number in range(10_002)), line(-1.0))
    with pytest.raises(BadLine, match="oldest first"):
        list(in_order(pasts))


@pytest.mark.parametrize("at", [0.0, 1.234, NOON + 0.567])
def test_an_id_tells_the_moment_it_was_made_for(at: float) -> None:
    assert moment_of(request_id(at)) == pytest.approx(at, abs=0.001)


@pytest.mark.parametrize(
    "text", ["", "req_", "req_01", "req_" + "U" * 26, "01M6J2D4SR000000000000009V", "req_" + "0" * 27]
)
def test_what_is_no_id_tells_none(text: str) -> None:
    assert moment_of(text) is None
