"""The contract's tables hold together."""

from typing import Any

import pytest

from flatfee import wire
from flatfee.wire import ERRORS, WORKFLOW_ID, ErrorCode, Header, error_body, retryable


def test_every_code_has_a_rule_and_every_rule_a_code() -> None:
    assert set(ERRORS) == set(ErrorCode)


@pytest.mark.parametrize("code", list(ErrorCode))
def test_rules_are_sane(code: Any) -> None:
    rule = ERRORS[code]
    assert 400 <= rule.status <= 599
    assert rule.when.endswith(".")
    assert not (rule.retryable and rule.status in {400, 401, 402, 403, 404}), "a refusal is no reason to try again"


def test_every_header_name_is_lower_case_and_explained() -> None:
    names = {name for key, name in vars(Header).items() if not key.startswith("_")}
    assert all(name == name.lower() for name in names)
    explained = {name.lower() for name in (*wire.REQUEST_HEADERS, *wire.RESPONSE_HEADERS)}
    assert names == explained


@pytest.mark.parametrize(
    ("status", "code", "told", "expected"),
    [
        (503, ErrorCode.FALLBACK_EXHAUSTED, None, False),
        (503, ErrorCode.FALLBACK_EXHAUSTED, "true", False),
        (402, "a_code_of_tomorrow", "true", False),
        (429, "insufficient_quota", "true", False),
        (503, ErrorCode.STORE_UNAVAILABLE, "false", False),
        (503, ErrorCode.STORE_UNAVAILABLE, "maybe", True),
        (429, None, None, True),
        (503, "a_code_of_tomorrow", None, True),
        (400, "a_code_of_tomorrow", None, False),
    ],
)
def test_the_header_decides_over_all_but_what_is_final_then_the_code_then_the_status(
    status: Any, code: Any, told: Any, expected: Any
) -> None:
    assert retryable(status, code, told) is expected


def test_the_envelope_is_openais_with_the_receipt_beside() -> None:
    body = error_body(ErrorCode.NOT_FOUND, "No such receipt.", param="id", receipt={"request_id": "r"})
    assert body == {
        "error": {
            "message": "No such receipt.",
            "type": "invalid_request_error",
            "param": "id",
            "code": "not_found",
        },
        "flatfee": {"request_id": "r"},
    }
    assert "flatfee" not in error_body(ErrorCode.NOT_FOUND, "x")


def test_a_providers_own_code_keeps_its_type() -> None:
    assert error_body("odd", "x", type="provider_error")["error"]["type"] == "provider_error"
    assert error_body("odd", "x")["error"]["type"] == "server_error"


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("run-42", True),
        ("A.b_c:d", True),
        ("x" * 128, True),
        ("", False),
        ("x" * 129, False),
        ("a b", False),
        ("é", False),
        (".", False),
        ("..", False),
        ("...", True),
        (".a", True),
        ("a..", True),
        (".\n", False),
    ],
)
def test_workflow_ids(text: Any, good: Any) -> None:
    assert bool(WORKFLOW_ID.fullmatch(text)) is good
