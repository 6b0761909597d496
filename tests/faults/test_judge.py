"""The judge: a run that is as it must be passes, and each broken promise is seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from tests.faults.callers import Heard
from tests.faults.judge import PRICE, judge
from tests.faults.rows import TABLE
from tests.faults.scenario import FIRST, OTHER, PROVIDER_KEY, Case, Run
from tests.faults.speech import HALF, TEXT
from tests.faults.steps import Seen
from tests.faults.table import Company, Verdict
from tests.server.fakes import KEY

ROWS = {row.key: row for row in TABLE}


def seen(model: str, at: float, *, key: str = PROVIDER_KEY, gone_at: float | None = None) -> Seen:
    head = f"POST / HTTP/1.1\r\nauthorization: Bearer {key}".encode()
    return Seen(model=model, at=at, head=head, body={"stream": True}, nth=1, fault="", trap="", gone_at=gone_at)


def attempt(route: str, outcome: str, status: int | None, **more: int) -> dict[str, Any]:
    return {"route": route, "outcome": outcome, "status": status, "duration_ms": 9, **more}


def receipt_of(*attempts: Mapping[str, Any], charged: int) -> dict[str, Any]:
    by = attempts[-1]["route"]
    return {
        "request_id": "req_1",
        "state": "settled",
        "lane": "fallback" if by == OTHER else "premium",
        "reason": "provider_error" if by == OTHER else "requested",
        "route": by,
        "model_served": by,
        "attempts": list(attempts),
        "fair_use": {"charged": charged},
    }


def rescued() -> Run:
    """Return a run as it must be: two tries, and the other route's whole answer."""
    attempts = (attempt(FIRST, "error", 500), attempt(FIRST, "error", 500), attempt(OTHER, "ok", 200, first_token_ms=4))
    receipt = receipt_of(*attempts, charged=PRICE)
    heard = Heard("raw socket", whole=True, texts={0: TEXT}, finishes={0: "stop"}, ids={("a", 1)}, roles=1)
    heard.receipt, heard.done, heard.cut, heard.at = receipt, True, False, 2.0
    return Run(
        case=Case(row=ROWS["http-500"], company=Company.HEALTHY, shape="stream", caller="raw"),
        heard=heard,
        tries=[seen(FIRST, 1.0), seen(FIRST, 1.3)],
        others=[seen(OTHER, 1.4)],
        receipt=receipt,
        receipts=1,
        used=PRICE,
        trapped=0,
        still_open=0,
    )


def told() -> Run:
    """Return a run as it must be: a text that broke off, and an error."""
    receipt = receipt_of(attempt(FIRST, "error", 200, first_token_ms=2), charged=0)
    heard = Heard("raw socket", texts={0: HALF}, error="error", code="provider_unavailable", status=200)
    heard.receipt, heard.done, heard.cut, heard.at = receipt, False, False, 2.0
    return replace(
        rescued(),
        case=Case(row=ROWS["cut-midway-stream"], company=Company.ALONE, shape="stream", caller="raw"),
        heard=heard,
        tries=[seen(FIRST, 1.0)],
        others=[],
        receipt=receipt,
        used=0,
    )


def test_what_is_as_it_must_be_is_not_complained_of() -> None:
    assert judge(rescued()).wrongs == []
    assert judge(rescued()).verdict is Verdict.RESCUED
    assert judge(told()).wrongs == []
    assert judge(told()).verdict is Verdict.CLEAN_ERROR


def hearing(**changes: Any) -> Callable[[Run], Run]:
    def changed(run: Run) -> Run:
        for name, value in changes.items():
            setattr(run.heard, name, value)
        return run

    return changed


def receiving(**changes: Any) -> Callable[[Run], Run]:
    def changed(run: Run) -> Run:
        assert run.receipt is not None
        return replace(run, receipt={**run.receipt, **changes})

    return changed


@pytest.mark.parametrize(
    ("run", "change", "wrong"),
    [
        (rescued, lambda run: replace(run, heard=None), "left hanging"),
        (rescued, hearing(texts={0: HALF}), "the wrong text"),
        (rescued, hearing(texts={0: HALF + TEXT}), "the wrong text"),
        (rescued, hearing(finishes={}), "without a finish reason"),
        (rescued, hearing(ids={("a", 1), ("b", 1)}), "several ids"),
        (rescued, hearing(roles=2), "a second role"),
        (rescued, hearing(cut=True), "was cut"),
        (rescued, hearing(receipt=None), "no receipt in the answer"),
        (rescued, hearing(odd=["an event is not JSON"]), "not JSON"),
        (rescued, lambda run: replace(run, receipts=2), "2 receipts"),
        (rescued, lambda run: replace(run, used=2 * PRICE), "units noted"),
        (rescued, receiving(fair_use={"charged": 1}), "charged 1 units"),
        (rescued, receiving(model_served=FIRST), "the receipt names"),
        (rescued, receiving(lane="premium"), "the lane premium"),
        (rescued, receiving(reason="provider_timeout"), "for provider_timeout, not"),
        (rescued, receiving(state="estimated"), "the state estimated"),
        (rescued, receiving(attempts=[attempt(OTHER, "ok", 200, first_token_ms=1)]), "the attempts"),
        (rescued, lambda run: replace(run, tries=[seen(FIRST, 1.0), seen(FIRST, 1.1)]), "asked again after 0.10 s"),
        (rescued, lambda run: replace(run, tries=[seen(FIRST, 1.0)]), "1 tries arrived"),
        (rescued, lambda run: replace(run, others=[]), "asked 0 times"),
        (rescued, lambda run: replace(run, trapped=1), "a redirect was followed"),
        (rescued, lambda run: replace(run, still_open=1), "not ended"),
        (rescued, lambda run: replace(run, others=[seen(OTHER, 1.4, key=KEY)]), "the wrong key"),
        (told, lambda run: replace(run, tries=[seen(FIRST, 1.0, gone_at=3.5)]), "ended 1.5 s after"),
        (told, hearing(whole=True, error=None, finishes={}), "without a finish reason"),
        (told, hearing(texts={}, headers={"x-should-retry": "false"}), "x-should-retry is false"),
        (told, hearing(texts={}, headers={"x-should-retry": "true"}), "no Retry-After"),
        (told, hearing(error=None), "no error told"),
        (told, hearing(error="StreamTruncated"), "not an error of the gateway"),
        (told, hearing(code="server_error"), "the code server_error"),
        (told, hearing(done=True), "[DONE] after an error"),
        (told, hearing(texts={0: "Something else"}), "no part of one answer"),
        (told, lambda run: replace(receiving(fair_use={"charged": 5})(run), used=5), "a failure was charged 5"),
    ],
)
def test_a_broken_promise_is_seen(run: Callable[[], Run], change: Callable[[Run], Run], wrong: str) -> None:
    judgement = judge(change(run()))
    assert judgement.verdict is Verdict.FAIL
    assert any(wrong in each for each in judgement.wrongs), judgement.wrongs


def test_a_verdict_that_is_not_the_tables_is_a_failure() -> None:
    run = rescued()
    row = run.case.row
    wanted = replace(row.expects[Company.HEALTHY], verdict=Verdict.PASS)
    case = replace(run.case, row=replace(row, expects={Company.HEALTHY: wanted}))
    assert judge(replace(run, case=case)).wrongs == ["rescued, not pass"]
