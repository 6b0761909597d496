"""What is known of a service: where it is, what its key is called, how it wants to be asked. Values; no row is here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

from flatfee.server.providers.dialect import PLAIN, Dialect

BOOKKEEPING: Final = frozenset({"metadata", "prompt_cache_key", "safety_identifier", "store", "user"})
"""Members of OpenAI's request that say what is kept of an answer, or for whom it is, and nothing of the answer."""

BESIDE_WHAT_WAS_SAID: Final = frozenset(
    {
        *("annotations", "audio", "refusal"),  # OpenAI
        *("reasoning", "reasoning_content", "reasoning_details"),  # thoughts: vLLM, DeepSeek, OpenRouter
        *("provider_specific_fields", "thinking_blocks"),  # LiteLLM
        "extra_content",  # Gemini, in a call
    }
)
"""Members that answers have beside what they say, by who has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quirk:
    """One way of a service that OpenAI's API does not have, and where it was read. ``field`` is the dialect's."""

    says: str
    source: str
    field: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One service. ``api`` is the API it speaks, by which its adapter is chosen.

    ``base_url`` is where it is, unless the file says otherwise; ``None``: the file must, in the form of ``example``.
    ``prefill_url`` is where it goes on from begun answers, if elsewhere. ``key_env`` is the environment variable
    that its own pages call the key's; ``needs_key``: nothing is answered without one.
    """

    title: str
    api: Literal["openai", "anthropic", "simulated"] = "openai"
    base_url: str | None = None
    example: str | None = None
    prefill_url: str | None = None
    key_env: str | None = None
    needs_key: bool = False
    dialect: Dialect = PLAIN
    source: str = ""
    quirks: tuple[Quirk, ...] = ()

    def is_at(self, base_url: str | None) -> bool:
        """Tell whether an address is at the service's own host, where its key may go. One without is anywhere."""
        return self.base_url is None or (base_url is not None and _origin(base_url) == _origin(self.base_url))


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
