"""What providers say in words only: that the context is too large, and what merely sounds like it."""

from __future__ import annotations

import json

import pytest
from tests.server.fakes import Reply, ScriptedAnswer, route

from flatfee.server.settings import RouteSettings
from flatfee.server.stages.failures import rejected
from flatfee.wire import AttemptOutcome


async def outcome_of(message: str, status: int = 400) -> AttemptOutcome:
    body = json.dumps({"error": {"message": message, "type": "invalid_request_error", "code": None}}).encode()
    failed = await rejected(
        RouteSettings.model_validate(route("r")), ScriptedAnswer(Reply([body], status)), lambda: 0.0
    )
    assert failed.refusal is not None
    assert failed.refusal.error["message"] == message
    return failed.outcome


@pytest.mark.parametrize(
    "message",
    [
        "prompt is too long: 209353 tokens > 199999 maximum",
        "input length and `max_tokens` exceed context limit: 198981 + 21333 > 200000, decrease input length",
        "This model's maximum context length is 4097 tokens. However, your messages resulted in 6164 tokens.",
        "This endpoint's maximum context length is 1048576 tokens. However, you requested about 1618708 tokens.",
        "'max_tokens' is too large: 9000. This model's maximum context length is 8192 tokens and your request has 20.",
        "You passed 4097 input tokens. However, the model's context length is only 8192 tokens.",
        "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
        "Prompt contains 300000 tokens, too large for model with 131072 maximum context length",
        "The prompt is too long: 40177, model maximum context length: 32767",
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097. Given: 80125 `inputs` tokens.",
        "The number of tokens to keep from the initial prompt is greater than the context length (n_keep: 13055>= n",
        "However, the model is loaded with context length of only 7866 tokens, which is not enough.",
        "prompt too long; exceeded max context length by 4096 tokens",
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
    ],
)
async def test_a_context_that_is_too_large_is_known_by_its_words(message: str) -> None:
    assert await outcome_of(message) == AttemptOutcome.CONTEXT_OVERFLOW


@pytest.mark.parametrize(
    "message",
    [
        "max_tokens is too large: 200000. This model supports at most 16384 completion tokens.",
        "The prompt is too long for this tool.",
        "Invalid 'messages[0].content': string too long. Expected a string with maximum length 1048576.",
        "tools: maximum context length is not a parameter.",
        "Too many tokens per minute: 90000 > 80000.",
    ],
)
async def test_other_refusals_are_no_overflow(message: str) -> None:
    assert await outcome_of(message) == AttemptOutcome.REFUSED
