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
    """``usage`` of a message, of ``message_start``, and of ``message_delta``."""

    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None
    output_tokens_details: _OutputDetails | None = None

    def after(self, earlier: Usage | None) -> Usage:
        """Return these counts, or those told earlier: they only grow, but some services end with zeros."""
        if earlier is None:
            return self
        return Usage(
            input_tokens=_more(self.input_tokens, earlier.input_tokens),
            cache_creation_input_tokens=_more(self.cache_creation_input_tokens, earlier.cache_creation_input_tokens),
            cache_read_input_tokens=_more(self.cache_read_input_tokens, earlier.cache_read_input_tokens),
            output_tokens=_more(self.output_tokens, earlier.output_tokens),
            output_tokens_details=self.output_tokens_details or earlier.output_tokens_details,
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


def _more(one: int | None, other: int | None) -> int | None:
    told = [count for count in (one, other) if count is not None]
    return max(told, default=None)
