"""Every failure has a name, keeps its receipt, and survives a pickle."""

import copy
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatfee import Attempt, ParsedChatCompletion, Receipt, ToolRun, ToolStep, errors
from flatfee.errors import (
    CODE_CLASSES,
    STATUS_CLASSES,
    APIConnectionError,
    APIError,
    APIStatusError,
    BadRequestError,
    ConcurrencyLimitError,
    ContentFilterFinishReasonError,
    FallbackExhausted,
    FlatfeeError,
    InternalServerError,
    LengthFinishReasonError,
    RateLimitError,
    StreamTruncated,
    StructuredOutputError,
    ToolError,
    ToolLoopError,
    from_wire,
)
from flatfee.wire import ERRORS, ErrorCode, error_body

ALL = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, FlatfeeError)]
RECEIPT = Receipt(request_id="req_1", attempts=(Attempt(route="a", outcome="timeout"),))
COMPLETION: ParsedChatCompletion[Any] = ParsedChatCompletion.model_validate(
    {"choices": [{"message": {"content": "x"}}], "flatfee": RECEIPT}
)
RUN: ToolRun[Any] = ToolRun(messages=({"role": "user"},), steps=(ToolStep(completion=COMPLETION),), workflow="run-42")


def made(kind: Any) -> Any:
    if issubclass(kind, APIStatusError):
        body = {"message": "No.", "code": "odd", "param": "p", "type": "t"}
        error = kind("No.", status_code=503, headers={"Retry-After": "3"}, body=body, receipt=RECEIPT)
    elif issubclass(kind, StreamTruncated):
        error = kind("No.", partial="half", receipt=RECEIPT)
    elif issubclass(kind, LengthFinishReasonError | ContentFilterFinishReasonError):
        error = kind(completion=COMPLETION)
    elif issubclass(kind, StructuredOutputError):
        error = kind("No.", completion=COMPLETION)
    elif issubclass(kind, APIError):
        error = kind("No.", receipt=RECEIPT)
        error.run = RUN
    elif issubclass(kind, ToolLoopError):
        return kind("No.", run=RUN, **({"tool": "weather"} if kind is ToolError else {}))
    else:
        return kind("No.")
    error.response = object()  # cannot be pickled, and is left behind
    return error


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_code_has_its_class_status_and_retry_rule(code: Any) -> None:
    rule = ERRORS[code]
    error = from_wire(rule.status, {}, error_body(code, "No."))
    assert type(error) is CODE_CLASSES[code]
    assert isinstance(error, STATUS_CLASSES[rule.status])
    assert (error.status_code, error.code, error.type) == (rule.status, code, rule.type)
    assert error.retryable is rule.retryable


@pytest.mark.parametrize("code", list(ErrorCode))
def test_an_event_in_mid_stream_has_the_status_of_its_code(code: Any) -> None:
    error = from_wire(200, {}, error_body(code, "No."))
    assert (type(error), error.status_code) == (CODE_CLASSES[code], ERRORS[code].status)


@pytest.mark.parametrize("kind", ALL)
def test_every_class_survives_pickle_and_copy(kind: Any) -> None:
    error = made(kind)
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is kind
        assert (str(again), again.args) == (str(error), error.args)
        assert getattr(again, "response", None) is None
        kept = {name: value for name, value in vars(error).items() if name != "response"}
        assert vars(again) == kept


def test_a_limit_of_workflows_is_a_rate_limit_and_an_exhausted_fallback_is_unavailable() -> None:
    assert issubclass(ConcurrencyLimitError, RateLimitError)
    assert issubclass(FallbackExhausted, InternalServerError)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, BadRequestError), (418, APIStatusError), (500, InternalServerError), (529, InternalServerError)],
)
def test_an_unknown_code_is_classified_by_status(status: Any, kind: Any) -> None:
    assert type(from_wire(status, {}, {"error": {"message": "x", "code": "odd"}})) is kind


@pytest.mark.parametrize(
    ("inner", "status"),
    [({"code": 429}, 429), ({"status": 404, "code": "odd"}, 404), ({"code": 7}, 500), ("slow down", 500)],
)
def test_an_error_event_without_a_known_code_tells_its_status_or_is_500(inner: Any, status: Any) -> None:
    assert from_wire(200, {}, {"error": inner}).status_code == status


def test_the_receipt_is_merged_from_headers_and_body() -> None:
    headers = {"x-flatfee-request-id": "req_1", "x-flatfee-lane": "premium", "retry-after": "3"}
    attempts = [{"route": "a", "outcome": "timeout"}, {"route": "b", "outcome": "error", "status": 500}]
    body = error_body("fallback_exhausted", "x", receipt={"request_id": "req_1", "attempts": attempts})
    error = from_wire(503, headers, json.dumps(body))
    assert isinstance(error, FallbackExhausted)
    assert error.receipt is not None
    assert (error.receipt.lane, error.request_id, error.retry_after) == ("premium", "req_1", 3.0)
    assert [attempt.route for attempt in error.attempts] == ["a", "b"]


def test_without_a_receipt_the_id_comes_from_the_header_other_gateways_send() -> None:
    error = from_wire(500, {"X-Request-Id": "abc"}, None)
    assert error.request_id == "abc"
    assert error.receipt is None
    assert error.attempts == ()
    assert APIConnectionError("x").request_id is None


@pytest.mark.parametrize(("text", "seconds"), [("2", 2.0), ("0.5", 0.5), ("-1", 0.0), ("soon", None)])
def test_retry_after_is_in_seconds(text: Any, seconds: Any) -> None:
    assert from_wire(429, {"Retry-After": text}, None).retry_after == seconds


@pytest.mark.parametrize("body", [b"[" * 200_000, b'{"error":' + b"[" * 200_000, b"\xff"])
def test_a_body_that_no_parser_takes_is_an_error_without_a_message(body: Any) -> None:
    error = from_wire(502, {"x-flatfee-request-id": "req_1"}, body)
    assert (error.status_code, error.request_id, error.body) == (502, "req_1", None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "message", "code", "flatfee", "lane", "attempts"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)
GATEWAY_HEADERS = st.dictionaries(
    st.sampled_from(["x-flatfee-request-id", "x-flatfee-fair-use-remaining", "retry-after", "x-should-retry"]),
    st.text(max_size=8),
)


@given(status=st.integers(100, 599), headers=GATEWAY_HEADERS, body=st.binary(max_size=60) | JSON.map(json.dumps) | JSON)
def test_no_garbage_makes_the_classification_fail(status: Any, headers: Any, body: Any) -> None:
    error = from_wire(status, headers, body if isinstance(body, bytes | str | dict) else None)
    assert isinstance(error, APIStatusError)
    assert error.status_code >= 400
    assert error.message
    assert error.retry_after is None or error.retry_after >= 0
    pickle.loads(pickle.dumps(error))
