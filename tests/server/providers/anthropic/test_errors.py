"""Errors, Anthropic's as OpenAI's, and what they are recognised by."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flatfee.server.providers.anthropic.errors import Trouble, read_trouble


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("invalid_request_error", None),
        ("authentication_error", "invalid_api_key"),
        ("billing_error", "insufficient_quota"),
        ("permission_error", "permission_denied"),
        ("not_found_error", "model_not_found"),
        ("request_too_large", "request_too_large"),
        ("rate_limit_error", "rate_limit_exceeded"),
        ("api_error", None),
        ("timeout_error", None),
        ("overloaded_error", None),
    ],
)
def test_an_error_keeps_its_type_and_words_and_gets_a_code(kind: str, code: str | None) -> None:
    told = json.loads(Trouble(type=kind, message="Why.").body())
    assert told == {"error": {"message": "Why.", "type": kind, "param": None, "code": code}}


@pytest.mark.parametrize(
    ("message", "blamed"),
    [
        ("messages.1.content.0: Invalid `signature` in `thinking` block", True),
        (
            "messages.3.content.0: Invalid `signature` in `thinking` block. The block is bound to a different …",
            True,
        ),
        (
            "messages.1.content.5: `thinking` or `redacted_thinking` blocks in the latest … cannot be modified.",
            True,
        ),
        (
            "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `text`. When …",
            False,
        ),
        ("`max_tokens` must be greater than `thinking.budget_tokens`.", False),
        ("prompt is too long: 200001 tokens > 200000 maximum", False),
    ],
)
def test_thinking_that_was_given_back_is_blamed_by_the_apis_own_words(message: str, blamed: bool) -> None:
    assert Trouble(type="invalid_request_error", message=message).blames_thinking is blamed
    assert not Trouble(type="api_error", message=message).blames_thinking


@pytest.mark.parametrize(
    "message",
    [
        'tool_choice: type "tool" and "any" are not supported for this model.',
        '"thinking.type.disabled" is not supported for this model. Use "thinking.type.adaptive" and …',
        "adaptive thinking is not supported on this model",
        "`temperature` is deprecated for this model.",
        "This model does not support assistant message prefill. The conversation must end with a user message.",
        "max_tokens: 100000 > 64000, which is the maximum allowed number of output tokens for claude-haiku-4-5",
    ],
)
def test_what_only_the_model_does_not_take_has_the_code_of_it(message: str) -> None:
    assert json.loads(Trouble(type="invalid_request_error", message=message).body())["error"]["code"] == (
        "unsupported_value"
    )
    assert json.loads(Trouble(type="api_error", message=message).body())["error"]["code"] is None


@pytest.mark.parametrize("body", [b"", b"<html>502</html>", b"[]", b'{"error":"text"}', b'{"error":null}', b"\xff"])
def test_what_is_no_error_of_this_api_is_none(body: bytes) -> None:
    assert read_trouble(body) is None


@pytest.mark.parametrize("details", [None, {}, {"error_code": None}, {"error_code": "other"}])
def test_a_limit_that_passes_is_not_taken_for_one_that_does_not(details: dict[str, Any] | None) -> None:
    error = {"type": "rate_limit_error", "message": "slow down", "details": details}
    trouble = read_trouble(json.dumps({"type": "error", "error": error}).encode())
    assert trouble is not None
    assert json.loads(trouble.body())["error"]["code"] == "rate_limit_exceeded"
