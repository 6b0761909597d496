"""What an answer used, Anthropic's counts as OpenAI's. Pure.

Anthropic counts tokens that were written to the cache or read from it apart from ``input_tokens``; OpenAI's
``prompt_tokens`` is all of them (https://platform.claude.com/docs/en/build-with-claude/prompt-caching). Thinking
is part of the output in both.
"""

from __future__ import annotations

import msgspec


class _OutputDetails(msgspec.Struct):
    thinking_tokens: int | None = None


class Usage(msgspec.Struct):
    """``usage`` of a message, of ``message_start``, and of ``message_delta``, where counts are cumulative."""

    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None
    output_tokens_details: _OutputDetails | None = None

    def after(self, earlier: Usage | None) -> Usage:
        """Return these counts, and those told earlier that are not among them."""
        if earlier is None:
            return self
        names = self.__struct_fields__
        return Usage(
            **{name: getattr(earlier if getattr(self, name) is None else self, name) for name in names},
        )

    def as_openai(self) -> dict[str, object]:
        """Return OpenAI's ``usage``."""
        written, read = self.cache_creation_input_tokens or 0, self.cache_read_input_tokens or 0
        prompt, output = (self.input_tokens or 0) + written + read, self.output_tokens or 0
        told: dict[str, object] = {
            "prompt_tokens": prompt,
            "completion_tokens": output,
            "total_tokens": prompt + output,
            "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
        }
        details = self.output_tokens_details
        if details is not None and details.thinking_tokens is not None:
            told["completion_tokens_details"] = {"reasoning_tokens": details.thinking_tokens}
        return told
