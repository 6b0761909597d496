"""Exceptions as the caller is told of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import pytest

from flatfee.receipt import Receipt
from flatfee.server.faults import CallerGone, Fault, ProviderRefusal, answer
from flatfee.server.store.base import StoreDown
from flatfee.wire import ERRORS, ErrorCode

RECEIPT = Receipt(request_id="req_1")


@pytest.mark.parametrize("code", ErrorCode)
def test_every_code_has_its_status_type_and_retry_rule(code: ErrorCode) -> None:
    told = answer(Fault(code, "Why.", param="p", retry_after=9), RECEIPT)
    rule = ERRORS[code]
    assert told.status == rule.status
    assert told.envelope == {
        "error": {"message": "Why.", "type": rule.type, "param": "p", "code": code},
        "flatfee": {"request_id": "req_1"},
    }
    retry = {"x-should-retry": "true", "retry-after": "9"} if rule.retryable else {"x-should-retry": "false"}
    assert {name.lower(): value for name, value in told.headers.items()} == retry


@pytest.mark.parametrize("seconds", [None, 0])
def test_a_retry_is_never_asked_for_sooner_than_in_a_second(seconds: int | None) -> None:
    headers = answer(Fault(ErrorCode.RATE_LIMITED, "x", retry_after=seconds), RECEIPT).headers
    assert {name.lower(): value for name, value in headers.items()}["retry-after"] == "1"


def test_a_providers_refusal_keeps_its_status_and_words() -> None:
    told = answer(ProviderRefusal(422, {"message": "m", "code": 7}), RECEIPT)
    assert (told.status, told.envelope["error"]) == (422, {"message": "m", "code": 7})
    assert list(told.headers.values()) == ["false"]


def test_a_store_that_is_down_is_logged_and_not_explained(caplog: pytest.LogCaptureFixture) -> None:
    told = answer(StoreDown("canary-path"), RECEIPT)
    assert told.envelope["error"]["code"] == "store_unavailable"
    assert "canary" not in str(told)
    assert caplog.messages == ["store.down"]


@pytest.mark.parametrize("error", [ValueError("canary"), KeyError("canary"), RecursionError("canary"), CallerGone()])
def test_what_nobody_expected_is_logged_by_its_place_and_told_without_detail(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    try:
        raise error
    except type(error):
        told = answer(error, RECEIPT)
    assert (told.status, told.envelope["error"]["code"]) == (503, "gateway_overloaded")
    assert "canary" not in str(told)
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "request.crashed")
    assert record.__dict__["error"] == type(error).__name__
    assert record.__dict__["where"].startswith("test_faults.py:")
    assert "canary" not in str(record.__dict__)


def test_a_fault_that_knows_more_tells_it() -> None:
    class Knowing(Fault):
        receipt = Receipt(request_id="req_2")
        told: Mapping[str, str] = {"x-more": "1"}

    told = answer(Knowing(ErrorCode.NOT_FOUND, "x"), RECEIPT)
    assert told.envelope["flatfee"] == {"request_id": "req_2"}
    assert told.headers["x-more"] == "1"
