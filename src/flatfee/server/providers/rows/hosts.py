"""Services that serve models of others, asked over the internet with a key. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from flatfee.server.providers.dialect import Dialect
from flatfee.server.providers.rows.row import BESIDE_WHAT_WAS_SAID, BOOKKEEPING, Quirk, Row

HOSTS: Final[Mapping[str, Row]] = {
    "openrouter": Row(
        title="OpenRouter",
        base_url="https://openrouter.ai/api/v1",
        key_env="OPENROUTER_API_KEY",
        needs_key=True,
        source="https://openrouter.ai/docs/api-reference/overview",
        quirks=(
            Quirk(
                says="403 with `metadata.reasons` is its moderation, and no matter of the key",
                source="https://openrouter.ai/docs/api/reference/errors-and-debugging",
            ),
            Quirk(
                says="an error in mid-stream is an event with `error` and `finish_reason: error`",
                source="https://openrouter.ai/docs/api/reference/errors-and-debugging",
            ),
            Quirk(
                says="comments (`: OPENROUTER PROCESSING`) while it waits for a model",
                source="https://openrouter.ai/docs/api-reference/streaming",
            ),
        ),
    ),
    "groq": Row(
        title="Groq",
        base_url="https://api.groq.com/openai/v1",
        key_env="GROQ_API_KEY",
        needs_key=True,
        dialect=Dialect(
            leave_out=BOOKKEEPING - {"user"},
            leave_out_of_answers=BESIDE_WHAT_WAS_SAID - {"reasoning"},
            tool_names=False,
        ),
        source="https://console.groq.com/docs/openai",
        quirks=(
            Quirk(
                field="tool_names",
                says="`messages[].name` is refused; it stays where it tells who speaks, so that is refused still",
                source="https://console.groq.com/docs/openai",
            ),
            Quirk(
                field="leave_out",
                says="`store` and `metadata` are not supported, and the others not known",
                source="https://github.com/groq/groq-python/blob/main/src/groq/types/chat/completion_create_params.py",
            ),
            Quirk(
                field="leave_out_of_answers",
                says="400 `property 'reasoning_content' is unsupported`, as for any member that an assistant's message "
                "has not; `reasoning` it has",
                source="https://github.com/janhq/jan/issues/8136",
            ),
            Quirk(
                says="`logprobs`, `top_logprobs`, `logit_bias` and `n` above 1 are refused",
                source="https://console.groq.com/docs/openai",
            ),
            Quirk(
                says="400 `tool_use_failed` is its model's failure to call a tool, which another route may cure",
                source="https://github.com/groq/groq-typescript/issues/28",
            ),
            Quirk(
                says="413 `rate_limit_exceeded` where one request is more than the account's tokens per minute; "
                "498 where the flex tier has no room",
                source="https://console.groq.com/docs/errors",
            ),
        ),
    ),
    "together": Row(
        title="Together AI",
        base_url="https://api.together.ai/v1",
        key_env="TOGETHER_API_KEY",
        needs_key=True,
        dialect=Dialect(output_limit="max_tokens"),
        source="https://docs.together.ai/docs/inference/openai-compatibility",
        quirks=(
            Quirk(
                field="output_limit",
                says="knows `max_tokens`; its own SDK has no other name",
                source="https://github.com/togethercomputer/together-python/blob/main/src/together/types/"
                "chat_completions.py",
            ),
            Quirk(
                says="403 may mean that the context is too large",
                source="https://docs.together.ai/docs/error-codes",
            ),
        ),
    ),
    "fireworks": Row(
        title="Fireworks AI",
        base_url="https://api.fireworks.ai/inference/v1",
        key_env="FIREWORKS_API_KEY",
        needs_key=True,
        dialect=Dialect(
            stream_options=False,
            output_limit="max_tokens",
            leave_out=frozenset({"safety_identifier", "store"}),
            leave_out_of_answers=BESIDE_WHAT_WAS_SAID - {"reasoning_content"},
            tool_names=False,
        ),
        source="https://docs.fireworks.ai/tools-sdks/openai-compatibility",
        quirks=(
            Quirk(
                field="stream_options",
                says="usage comes with the last event of every stream, also where it is not asked for",
                source="https://docs.fireworks.ai/tools-sdks/openai-compatibility",
            ),
            Quirk(
                field="output_limit",
                says="`max_completion_tokens` is another name for `max_tokens`, and not taken beside it",
                source="https://github.com/fw-ai-external/python-sdk/blob/main/src/fireworks/types/chat/"
                "completion_create_params.py",
            ),
            Quirk(
                field="leave_out",
                says="400 `Extra inputs are not permitted` for members it does not know",
                source="https://github.com/web-infra-dev/midscene/issues/1322",
            ),
            Quirk(
                field="leave_out_of_answers",
                says="the same for `messages[1].thinking_blocks`: of thoughts it knows `reasoning_content` only",
                source="https://github.com/BerriAI/litellm/issues/41277",
            ),
            Quirk(
                field="tool_names",
                says="a message has no `name`",
                source="https://github.com/fw-ai-external/python-sdk/blob/main/src/fireworks/types/shared_params/"
                "chat_message.py",
            ),
            Quirk(
                says="412 for an account that is suspended",
                source="https://docs.fireworks.ai/guides/inference-error-codes",
            ),
        ),
    ),
}
"""``kind`` → its row."""
