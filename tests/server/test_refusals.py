"""What services' errors mean, where their statuses mean something else than OpenAI's."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from tests.server.fakes import Reply, ScriptedAnswer, route

from flatfee.server.settings import RouteSettings
from flatfee.server.stages.failures import Failed, rejected
from flatfee.wire import AttemptOutcome

MODERATED = {"error": {"code": 403, "message": "Flagged.", "metadata": {"reasons": ["x"], "flagged_input": "y"}}}
TOO_MANY = {"error": {"message": "Request too large on tokens per minute (TPM)", "code": "rate_limit_exceeded"}}
RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3.5s"}


async def of(status: int, body: Any, **headers: str) -> Failed:
    answer = ScriptedAnswer(Reply([json.dumps(body).encode()], status, headers))
    return await rejected(RouteSettings.model_validate(route("r")), answer, lambda: 0.0)


async def test_openrouters_moderation_is_a_refusal_and_no_matter_of_the_key() -> None:
    failed = await of(403, MODERATED)
    assert failed.outcome is AttemptOutcome.REFUSED
    assert failed.refusal is not None
    assert failed.refusal.error["code"] == "403"


@pytest.mark.parametrize("metadata", [None, [], {}, {"reasons": []}, "reasons"])
async def test_another_403_is_the_operators_matter(metadata: Any, caplog: pytest.LogCaptureFixture) -> None:
    failed = await of(403, {"error": {"code": 403, "message": "No.", "metadata": metadata}})
    assert (failed.outcome, failed.refusal) == (AttemptOutcome.ERROR, None)
    assert [record.message for record in caplog.records] == ["provider.misconfigured"]


async def test_a_request_above_the_accounts_minute_is_no_overflow_and_tells_nothing_of_the_route() -> None:
    failed = await of(413, TOO_MANY)
    assert (failed.outcome, failed.pause, failed.blameless) == (AttemptOutcome.RATE_LIMITED, None, True)


@pytest.mark.parametrize("status", [498, 408, 529])
async def test_a_service_without_room_is_left_and_the_request_is_not_blamed(status: int) -> None:
    failed = await of(status, {"error": {"message": "capacity exceeded", "code": "capacity_exceeded"}})
    assert (failed.outcome, failed.refusal) == (AttemptOutcome.ERROR, None)


@pytest.mark.parametrize("code", ["tool_use_failed", "json_validate_failed"])
async def test_what_a_model_failed_to_say_is_no_refusal_and_not_held_against_the_route(code: str) -> None:
    failed = await of(400, {"error": {"message": "See failed_generation.", "code": code, "failed_generation": "<f"}})
    assert (failed.outcome, failed.refusal, failed.blameless) == (AttemptOutcome.ERROR, None, True)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (412, {"error": {"message": "Account is suspended"}}),
        (402, {"error": {"message": "Insufficient Balance", "code": "invalid_request_error"}}),
        (400, {"code": "Client specified an invalid argument", "error": "Incorrect API key provided: canary."}),
        (400, [{"error": {"code": 400, "message": "API key not valid. Please pass a valid API key."}}]),
        (400, [{"error": {"code": 400, "message": "API key expired. Please renew the API key."}}]),
        (400, [{"error": {"code": 400, "message": "User location is not supported for the API use."}}]),
        (400, {"error": {"message": "API Key not found. Please pass a valid API key."}}),
    ],
)
async def test_an_account_in_trouble_is_the_operators_matter(
    status: int, body: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        failed = await of(status, body)
    assert (failed.outcome, failed.refusal) == (AttemptOutcome.ERROR, None)
    assert [record.message for record in caplog.records] == ["provider.misconfigured"]
    assert "canary" not in caplog.text


async def test_a_caller_who_speaks_of_keys_is_refused_as_anyone() -> None:
    failed = await of(400, {"error": {"message": "messages[0].content: 'Incorrect API key provided' is no JSON"}})
    assert failed.outcome is AttemptOutcome.REFUSED


@pytest.mark.parametrize(
    ("details", "asked"),
    [
        ([{"@type": "x"}, RETRY_INFO], 3.5),
        ([{"retryDelay": "33s"}], 33.0),
        ([{"retryDelay": "soon"}, 7, None], None),
        ([{"retryDelay": 5}], None),
        ("33s", None),
        (None, None),
    ],
)
async def test_googles_apis_tell_in_the_body_when_to_come_back(details: Any, asked: float | None) -> None:
    failed = await of(429, [{"error": {"code": 429, "message": "Quota", "details": details}}])
    assert (failed.outcome, failed.retry_after) == (AttemptOutcome.RATE_LIMITED, asked)


async def test_the_header_counts_before_the_body() -> None:
    failed = await of(429, {"error": {"message": "Quota", "details": [RETRY_INFO]}}, **{"retry-after": "7"})
    assert failed.retry_after == 7.0
