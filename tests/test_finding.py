"""Receipts and failures in objects shaped like those of the frameworks that people use.

The shapes are the public ones of the packages; they are tried with the packages themselves elsewhere.
"""

import json
from types import SimpleNamespace as Object
from typing import Any
from unittest.mock import MagicMock

import httpx
import pytest
from pydantic import BaseModel, ConfigDict

import flatfee
from flatfee import FallbackExhausted, Receipt
from flatfee.errors import APIConnectionError, from_wire
from flatfee.wire import error_body

HEADERS = {"x-flatfee-request-id": "req_1", "x-flatfee-lane": "fallback", "x-flatfee-reason": "provider_timeout"}
BODY: dict[str, Any] = {"request_id": "req_1", "lane": "fallback", "state": "settled", "model_served": "m"}
SETTLED = Receipt.model_validate(BODY)
TOLD = Receipt.from_headers(HEADERS)
OURS = "req_01ARZ3NDEKTSV4RRFFQ69G5FAV"


class Loose(BaseModel):
    """A model of another SDK, open as openai-python's are."""

    model_config = ConfigDict(extra="allow")
    id: str = "c"


def response(status: int = 200, body: Any = None, **headers: str) -> httpx.Response:
    return httpx.Response(status, headers=HEADERS | headers, json=BODY if body is None else body)


LITELLM_HEADERS = {f"llm_provider-{name}": value for name, value in HEADERS.items()} | {"x-litellm-model-id": "7"}

SHAPES = {
    "openai completion or chunk": (Loose.model_validate({"flatfee": BODY}), SETTLED),
    "openai completion, typed": (Object(model_extra={"flatfee": BODY}), SETTLED),
    "openai raw response": (Object(headers=HEADERS, http_response=response(body={"flatfee": BODY})), "settled"),
    "chunks in a list": ([*(Loose() for _ in range(20)), Loose.model_validate({"flatfee": BODY})], SETTLED),
    "LangChain AIMessage": (Object(content="hi", response_metadata={"headers": HEADERS, "model_name": "m"}), TOLD),
    "LangChain AIMessage, extras": (Object(additional_kwargs={"flatfee": BODY}, response_metadata={}), SETTLED),
    "LangChain LLMResult": (
        Object(generations=[[Object(message=Object(response_metadata={"headers": HEADERS}))]], llm_output=None),
        TOLD,
    ),
    "LangChain generation info": (Object(generations=[[Object(generation_info={"headers": HEADERS})]]), TOLD),
    "LangChain structured output": ({"raw": Object(response_metadata={"headers": HEADERS}), "parsed": 7}, TOLD),
    "LangGraph state": (
        {"messages": [Object(content="hi"), Object(response_metadata={"headers": HEADERS}), Object(content="tool")]},
        TOLD,
    ),
    "LlamaIndex, raw object": (Object(raw=Loose.model_validate({"flatfee": BODY}), message=Object()), SETTLED),
    "LlamaIndex, raw dict": (Object(raw={"id": "c", "flatfee": BODY}, additional_kwargs={}), SETTLED),
    "smolagents ChatMessage": (Object(role="assistant", raw=Loose.model_validate({"flatfee": BODY})), SETTLED),
    "pydantic-ai ModelResponse": (Object(provider_details={"flatfee": BODY}), SETTLED),
    "pydantic-ai, older": (Object(vendor_details={"flatfee": BODY}), SETTLED),
    "pydantic-ai run result": (Object(response=Object(provider_details={"flatfee": BODY})), SETTLED),
    "openai-agents run result": (
        Object(raw_responses=[Object(request_id="x"), Object(request_id=OURS)]),
        Receipt(request_id=OURS),
    ),
    "LiteLLM response": (Object(_hidden_params={"additional_headers": LITELLM_HEADERS}), TOLD),
    "LiteLLM response headers": (Object(_hidden_params={}, _response_headers=HEADERS), TOLD),
    "LiteLLM error": (Object(litellm_response_headers=httpx.Headers(HEADERS)), TOLD),
    "instructor": (Object(name="Ada", _raw_response=Loose.model_validate({"flatfee": BODY})), SETTLED),
    "requests": (Object(headers=HEADERS, _content=json.dumps({"flatfee": BODY}).encode()), "settled"),
    "requests, unread": (Object(headers=HEADERS, _content=False), TOLD),
    "aiohttp": (Object(headers=HEADERS, _body=json.dumps({"flatfee": BODY}).encode()), "settled"),
    "aiohttp, unread": (Object(headers=HEADERS, _body=None), TOLD),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_of_finds_the_receipt_where_the_framework_keeps_it(shape: str) -> None:
    source, expected = SHAPES[shape]
    found: Any = Receipt.of(source)
    if expected == "settled":
        assert (found.state, found.reason, found.model_served) == ("settled", "provider_timeout", "m")
    else:
        assert found == expected


def test_what_headers_tell_is_completed_by_a_body_further_in() -> None:
    cause = Object(response=response(503, error_body("fallback_exhausted", "x", receipt=BODY | {"state": "refused"})))
    found: Any = Receipt.of(Object(headers=HEADERS, raw=cause))
    assert (found.reason, found.state, found.model_served) == ("provider_timeout", "refused", "m")
    other = Object(headers=HEADERS, raw={"flatfee": BODY | {"request_id": "req_2"}})
    assert Receipt.of(other) == TOLD


def test_members_of_a_group_and_arguments_of_an_exception_are_looked_into() -> None:
    ours = from_wire(503, HEADERS, error_body("fallback_exhausted", "x", receipt=BODY))
    group = ExceptionGroup("all models failed", [ValueError("x"), RuntimeError(ours)])
    assert Receipt.of(group) == ours.receipt
    assert flatfee.classify(group) is ours


@pytest.mark.parametrize("name", ["req_abc", "req_" + "0" * 32, "req_" + "I" * 26, 7])
def test_ids_of_others_are_no_receipts(name: Any) -> None:
    assert Receipt.of(Object(request_id=name)) is None


class Hostile(dict[str, Any]):
    def get(self, *_: Any) -> Any:
        raise RuntimeError

    def items(self) -> Any:
        raise RuntimeError


class Trap:
    """An object whose every property fails."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


def test_nothing_makes_the_search_fail_or_go_on_for_ever() -> None:
    ring: list[Any] = []
    ring.append(ring)
    deep: Any = None
    for _ in range(5000):
        deep = Object(raw=deep)
    broken = Object(_content=b"[" * 100_000, headers=HEADERS)
    for source in (Hostile(), Trap(), ring, deep, MagicMock(), Object(headers={1: b"x"}), Receipt, print, "x"):
        assert Receipt.of(source) is None
    assert Receipt.of(broken) == TOLD


def test_only_as_many_objects_are_looked_into_as_a_search_may() -> None:
    looked = 0

    class Endless:
        @property
        def raw(self) -> Any:
            nonlocal looked
            looked += 1
            return Endless()

    assert Receipt.of(Endless()) is None
    assert looked <= 200


def test_nothing_is_read_from_the_network() -> None:
    class Unread(Object):
        @property
        def content(self) -> Any:
            raise AssertionError

        json = text = read = content

    assert Receipt.of(Unread(headers=HEADERS)) == TOLD


# classify


class StatusError(Exception):
    """An error of openai-python, as far as it is public."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__("Error code: 503 - and the prompt")
        self.response = answer
        self.status_code = answer.status_code
        self.body = answer.json().get("error")


def test_an_error_of_ours_is_itself_wherever_it_is_wrapped() -> None:
    ours = APIConnectionError("x")
    assert flatfee.classify(ours) is ours
    wrapped = RuntimeError("wrapped")
    wrapped.__context__ = ours
    assert flatfee.classify(wrapped) is ours


def test_an_error_of_another_sdk_is_told_by_our_class() -> None:
    body = error_body("fallback_exhausted", "All failed.", receipt=BODY | {"state": "refused"})
    original = StatusError(response(503, body, **{"retry-after": "7"}))
    wrapped = RuntimeError("the framework failed")
    wrapped.__cause__ = original
    found = flatfee.classify(wrapped)
    assert isinstance(found, FallbackExhausted)
    assert found.receipt
    assert (found.message, found.code, found.status_code) == ("All failed.", "fallback_exhausted", 503)
    assert (found.receipt.state, found.retry_after, found.__cause__) == ("refused", 7.0, wrapped)


def test_the_code_alone_tells_the_class() -> None:
    """Errors in mid-stream have no status, and some frameworks keep the body only."""
    error = ValueError("x")
    error.body = {"message": "No.", "code": "workflow_limit"}  # type: ignore[attr-defined]  # as frameworks add it
    found: Any = flatfee.classify(error)
    assert (type(found), found.status_code, found.receipt) == (flatfee.ConcurrencyLimitError, 429, None)


def test_the_gateways_headers_alone_tell_the_class() -> None:
    error: Any = ValueError("x")
    error.status_code, error.headers, error.body = 402, HEADERS, None
    assert type(flatfee.classify(error)) is flatfee.BillingError


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(429, json={"error": {"message": "slow down", "code": "rate_limit_exceeded"}}),
        httpx.Response(
            404, json={"error": {"message": "no such model", "code": "model_not_found"}}, headers={"a": "b"}
        ),
        httpx.Response(500, json={"error": "x"}),
        httpx.Response(500, json={"error": {"code": 7}}),
    ],
)
def test_errors_of_other_services_are_not_ours(answer: httpx.Response) -> None:
    assert flatfee.classify(StatusError(answer)) is None
    assert flatfee.classify(ValueError("x")) is None


def test_what_openai_python_raises_is_told_by_our_class() -> None:
    openai = pytest.importorskip("openai")
    httpx2 = pytest.importorskip("httpx2")
    body = error_body("fallback_exhausted", "x", receipt=BODY)
    request = httpx2.Request("POST", "http://gateway.test/v1/chat/completions")
    answer = httpx2.Response(503, headers=HEADERS, json=body, request=request)
    found: Any = flatfee.classify(openai.InternalServerError("x", response=answer, body=body["error"]))
    assert (type(found), found.receipt.lane, found.receipt.model_served) == (FallbackExhausted, "fallback", "m")
    in_stream = openai.APIError("x", request, body=body["error"])
    assert isinstance(flatfee.classify(in_stream), FallbackExhausted)
