"""Servers that an operator runs, on this machine unless the file says otherwise. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from flatfee.server.providers.dialect import Dialect
from flatfee.server.providers.rows.row import Quirk, Row

_TEMPLATES: Final = Quirk(
    field="developer",
    says="which roles there are is up to the model's chat template, and most know no `developer`",
    source="https://github.com/ggml-org/llama.cpp/pull/20215",
)

OWN: Final[Mapping[str, Row]] = {
    "ollama": Row(
        title="Ollama",
        base_url="http://127.0.0.1:11434/v1",
        dialect=Dialect(output_limit="max_tokens", developer=False),
        source="https://docs.ollama.com/api/openai-compatibility",
        quirks=(
            Quirk(
                field="output_limit",
                says="ignores `max_completion_tokens`, and says without end",
                source="https://github.com/ollama/ollama/blob/main/openai/openai.go",
            ),
            Quirk(
                field="developer",
                says="which roles there are is up to the model",
                source="https://github.com/ollama/ollama-python/issues/453",
            ),
            Quirk(
                says="a context that is too large is cut off in silence: set the model's `num_ctx`, and the route's "
                "`context_tokens` to the same",
                source="https://github.com/ollama/ollama/issues/2722",
            ),
        ),
    ),
    "vllm": Row(
        title="vLLM",
        base_url="http://127.0.0.1:8000/v1",
        key_env="VLLM_API_KEY",
        dialect=Dialect(output_limit="max_tokens", developer=False, prefill="continue"),
        source="https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html",
        quirks=(
            Quirk(
                field="output_limit",
                says="older ones refuse `max_completion_tokens`, all know `max_tokens`",
                source="https://github.com/voideditor/void/issues/128",
            ),
            Quirk(
                field="developer",
                says="`Unexpected message role` where the model's template knows no `developer`",
                source="https://github.com/ogx-ai/ogx/issues/6069",
            ),
            Quirk(
                field="prefill",
                says="goes on with `continue_final_message: true` and `add_generation_prompt: false`",
                source="https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html",
            ),
        ),
    ),
    "sglang": Row(
        title="SGLang",
        base_url="http://127.0.0.1:30000/v1",
        dialect=Dialect(output_limit="max_tokens", developer=False, prefill="continue"),
        source="https://docs.sglang.io/basic_usage/openai_api_completions.html",
        quirks=(
            Quirk(
                field="output_limit",
                says="older ones know `max_tokens` only",
                source="https://github.com/sgl-project/sglang/blob/main/python/sglang/srt/entrypoints/openai/"
                "protocol.py",
            ),
            _TEMPLATES,
            Quirk(
                field="prefill",
                says="goes on with `continue_final_message: true`",
                source="https://github.com/sgl-project/sglang/pull/4226",
            ),
            Quirk(
                says="an answer that ends with `abort` was broken off",
                source="https://github.com/sgl-project/sglang/blob/main/python/sglang/srt/entrypoints/openai/"
                "protocol.py",
            ),
        ),
    ),
    "llama-cpp": Row(
        title="llama.cpp's server",
        base_url="http://127.0.0.1:9931/v1",
        key_env="LLAMA_API_KEY",
        dialect=Dialect(output_limit="max_tokens", developer=False),
        source="https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md",
        quirks=(
            Quirk(
                field="output_limit",
                says="every version knows `max_tokens`",
                source="https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md",
            ),
            _TEMPLATES,
            Quirk(
                says="versions before the autumn of 2026 listen on port 8080",
                source="https://github.com/ggml-org/llama.cpp/pull/26508",
            ),
            Quirk(
                says="a context that is too large is `exceed_context_size_error`",
                source="https://github.com/ggml-org/llama.cpp/pull/15780",
            ),
        ),
    ),
    "lm-studio": Row(
        title="LM Studio",
        base_url="http://127.0.0.1:1234/v1",
        dialect=Dialect(output_limit="max_tokens", developer=False),
        source="https://lmstudio.ai/docs/developer/openai-compat",
        quirks=(
            Quirk(
                field="output_limit",
                says="documents `max_tokens`",
                source="https://lmstudio.ai/docs/developer/openai-compat/chat-completions",
            ),
            _TEMPLATES,
            Quirk(
                says="an error is a text; a context that is too large is told in words only",
                source="https://github.com/Gitlawb/openclaude/issues/353",
            ),
        ),
    ),
    "openai-compatible": Row(
        title="any other OpenAI-compatible server",
        example="https://llm.example/v1",
        source="https://platform.openai.com/docs/api-reference/chat/create",
    ),
}
"""``kind`` → its row."""
