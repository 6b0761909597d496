"""Services of those who make the models, asked over the internet with a key. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from flatfee.server.providers.dialect import Dialect
from flatfee.server.providers.rows.row import BESIDE_WHAT_WAS_SAID, BOOKKEEPING, Quirk, Row

VENDORS: Final[Mapping[str, Row]] = {
    "openai": Row(
        title="OpenAI; with a `base_url` of your own, any compatible server",
        base_url="https://api.openai.com/v1",
        key_env="OPENAI_API_KEY",
        needs_key=True,
        dialect=Dialect(output_limit="max_completion_tokens", prefill="refused"),
        source="https://platform.openai.com/docs/api-reference/chat/create",
        quirks=(
            Quirk(
                field="output_limit",
                says="`max_tokens` is deprecated, and models that reason refuse it; all others know both",
                source="https://community.openai.com/t/developer-role-not-accepted-for-o1-o1-mini-o3-mini/1110750/7",
            ),
            Quirk(
                field="prefill",
                says="an assistant's message at the end is answered, not gone on with",
                source="https://github.com/sgl-project/sglang/issues/3971",
            ),
        ),
    ),
    "azure-openai": Row(
        title="Azure OpenAI, its v1 API; `model` is the name of a deployment",
        example="https://RESOURCE.openai.azure.com/openai/v1",
        key_env="AZURE_OPENAI_API_KEY",
        needs_key=True,
        dialect=Dialect(output_limit="max_completion_tokens", prefill="refused", key_header="api-key"),
        source="https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle",
        quirks=(
            Quirk(
                field="key_header",
                says="the key is sent as `api-key`",
                source="https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle",
            ),
            Quirk(
                field="output_limit",
                says="models that reason refuse `max_tokens`",
                source="https://learn.microsoft.com/en-us/azure/foundry/openai/how-to/reasoning",
            ),
            Quirk(
                field="prefill",
                says="the models are OpenAI's, which do not go on with an assistant's message",
                source="https://github.com/sgl-project/sglang/issues/3971",
            ),
            Quirk(
                says="a prompt that its filter stops is 400 `content_filter`; streams begin with an event without "
                "choices, which tells what the filter found",
                source="https://learn.microsoft.com/azure/ai-foundry/openai/concepts/content-filter",
            ),
        ),
    ),
    "deepseek": Row(
        title="DeepSeek",
        base_url="https://api.deepseek.com",
        prefill_url="https://api.deepseek.com/beta",
        key_env="DEEPSEEK_API_KEY",
        needs_key=True,
        dialect=Dialect(output_limit="max_tokens", wants_thoughts=True, developer=False, prefill="prefix"),
        source="https://api-docs.deepseek.com/api/create-chat-completion",
        quirks=(
            Quirk(
                field="output_limit",
                says="knows `max_tokens` only",
                source="https://api-docs.deepseek.com/api/create-chat-completion",
            ),
            Quirk(
                field="wants_thoughts",
                says="while it thinks, as it does unless told not to, 400 where tools were called and the "
                "`reasoning_content` is not passed back; an empty one will do",
                source="https://github.com/earendil-works/pi/issues/7702",
            ),
            Quirk(
                field="developer",
                says="`unknown variant developer` is refused",
                source="https://github.com/earendil-works/pi/issues/1048",
            ),
            Quirk(
                field="prefill",
                says="goes on from a message with `prefix: true`, at its `/beta` address only",
                source="https://api-docs.deepseek.com/guides/chat_prefix_completion",
            ),
            Quirk(
                says="cached tokens are told as `prompt_cache_hit_tokens`",
                source="https://api-docs.deepseek.com/guides/kv_cache",
            ),
            Quirk(
                says="an answer that ends with `insufficient_system_resource` was broken off",
                source="https://api-docs.deepseek.com/api/create-chat-completion",
            ),
        ),
    ),
    "mistral": Row(
        title="Mistral",
        base_url="https://api.mistral.ai/v1",
        key_env="MISTRAL_API_KEY",
        needs_key=True,
        dialect=Dialect(
            stream_options=False,
            output_limit="max_tokens",
            rename={"seed": "random_seed"},
            leave_out=frozenset({"safety_identifier", "service_tier", "store", "user"}),
            leave_out_of_answers=BESIDE_WHAT_WAS_SAID,
            developer=False,
            prefill="prefix",
        ),
        source="https://docs.mistral.ai/api/",
        quirks=(
            Quirk(
                field="stream_options",
                says="usage comes with the last event of every stream, and the member is none of the request's",
                source="https://github.com/mistralai/client-python/blob/main/docs/models/completionchunk.md",
            ),
            Quirk(
                field="output_limit",
                says="422 for `max_completion_tokens`",
                source="https://github.com/zed-industries/zed/issues/57122",
            ),
            Quirk(
                field="rename",
                says="the seed is called `random_seed`",
                source="https://github.com/mistralai/client-python/blob/main/docs/models/chatcompletionrequest.md",
            ),
            Quirk(
                field="leave_out",
                says="422 `extra_forbidden` for members it does not know, such as `store`",
                source="https://github.com/Gitlawb/openclaude/issues/739",
            ),
            Quirk(
                field="leave_out_of_answers",
                says="422 `extra_forbidden` for what an assistant's message has beside `content`, `tool_calls` and "
                "`prefix`",
                source="https://github.com/BerriAI/litellm/issues/30835",
            ),
            Quirk(
                field="developer",
                says="messages are of `system`, `user`, `assistant` or `tool`",
                source="https://github.com/mistralai/client-python/blob/main/docs/models/chatcompletionrequest.md",
            ),
            Quirk(
                field="prefill",
                says="goes on from a message with `prefix: true`",
                source="https://github.com/mistralai/client-python/blob/main/docs/models/assistantmessage.md",
            ),
            Quirk(
                says="a refusal may have its reasons as a list, under `detail` or `message.detail`",
                source="https://github.com/editor-code-assistant/eca/issues/231",
            ),
        ),
    ),
    "xai": Row(
        title="xAI",
        base_url="https://api.x.ai/v1",
        key_env="XAI_API_KEY",
        needs_key=True,
        source="https://docs.x.ai/docs/api-reference",
        quirks=(
            Quirk(
                says="models that reason refuse `presence_penalty`, `frequency_penalty` and `stop`, some "
                "`reasoning_effort` too",
                source="https://docs.x.ai/docs/guides/reasoning",
            ),
            Quirk(
                says="`completion_tokens` are without the tokens of reasoning",
                source="https://docs.x.ai/docs/key-information/consumption-and-rate-limits",
            ),
            Quirk(
                says="a wrong key is a 400; errors are `code` and `error`, both texts",
                source="https://docs.x.ai/developers/debugging",
            ),
        ),
    ),
    "gemini": Row(
        title="Gemini, its OpenAI-compatible endpoint",
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        key_env="GEMINI_API_KEY",
        needs_key=True,
        dialect=Dialect(leave_out=BOOKKEEPING),
        source="https://ai.google.dev/gemini-api/docs/openai",
        quirks=(
            Quirk(
                field="leave_out",
                says="400 `Unknown name` for `store`, `metadata` and other members it does not list",
                source="https://ai.google.dev/api/compatibility",
            ),
            Quirk(
                says="errors may be a list of one; a wrong key is a 400 with the reason `API_KEY_INVALID`; 429 tells "
                "its `retryDelay` in the body",
                source="https://ai.google.dev/gemini-api/docs/generate-content/api-errors",
            ),
            Quirk(
                says="`completion_tokens` are without the tokens of thoughts, which only `total_tokens` counts",
                source="https://discuss.ai.google.dev/t/question-with-usage-in-openai-compatibility/98760",
            ),
            Quirk(
                says="a country that is not served is a 400 as well, and no matter of the request",
                source="https://discuss.ai.google.dev/t/gemini-api-location-support/454",
            ),
            Quirk(
                says="Gemini 3 and newer want each call of a tool back with the `thought_signature` that came in its "
                "`extra_content`, and refuse one without: a workflow with tools is best begun and ended there",
                source="https://ai.google.dev/gemini-api/docs/thought-signatures",
            ),
        ),
    ),
    "anthropic": Row(
        title="Anthropic's Messages API",
        api="anthropic",
        base_url="https://api.anthropic.com/v1",
        key_env="ANTHROPIC_API_KEY",
        needs_key=True,
        dialect=Dialect(prefill="refused", key_header="x-api-key"),
        source="https://platform.claude.com/docs/en/api/messages",
        quirks=(
            Quirk(
                field="prefill",
                says="Claude 4.6 and newer refuse an assistant's message at the end; older ones, space at its end",
                source="https://platform.claude.com/docs/en/about-claude/models/migration-guide",
            ),
            Quirk(
                field="key_header",
                says="the key stands in `x-api-key`",
                source="https://platform.claude.com/docs/en/api/overview",
            ),
        ),
    ),
    "anthropic-compatible": Row(
        title="Anthropic, its OpenAI-compatible endpoint",
        base_url="https://api.anthropic.com/v1",
        key_env="ANTHROPIC_API_KEY",
        needs_key=True,
        dialect=Dialect(prefill="refused"),
        source="https://platform.claude.com/docs/en/api/openai-sdk",
        quirks=(
            Quirk(
                field="prefill",
                says="newer models refuse an assistant's message at the end",
                source="https://platform.claude.com/docs/en/about-claude/models/migration-guide",
            ),
            Quirk(
                says="meant for trying models out. `response_format` is ignored, so give its routes no capability "
                '`json_schema`: `capabilities = ["tools", "images"]`',
                source="https://platform.claude.com/docs/en/api/openai-sdk",
            ),
        ),
    ),
}
"""``kind`` → its row."""
