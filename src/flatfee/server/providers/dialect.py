"""What differs between the OpenAI-compatible services, as data. Frozen values; nothing is sent or read here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How one service's chat completions differ from OpenAI's.

    ``stream_options``: it knows the field, by which usage is asked for in streams.
    """

    stream_options: bool = True


OPENAI: Final = Dialect()
"""As OpenAI documents it (https://platform.openai.com/docs/api-reference/chat)."""
