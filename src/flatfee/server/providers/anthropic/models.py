"""What a model takes, by its name: the generations of Claude differ in their parameters. Pure.

A name that tells no version is the newest; one that is no Claude's, of a service that only speaks the Messages
API, takes what the oldest do, and strict tools.

https://platform.claude.com/docs/en/build-with-claude/thinking-troubleshooting (thinking by model),
https://platform.claude.com/docs/en/build-with-claude/effort (levels by model),
https://platform.claude.com/docs/en/about-claude/models/migration-guide (sampling, gone with 4.7).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_VERSION: Final = re.compile(r"claude-(?:[a-z]+-)?(\d{1,2})(?!\d)(?:[-.](\d{1,2})(?!\d))?")

_ADAPTIVE: Final = (4, 6)
"""From here on ``thinking`` is ``adaptive`` and steered by an effort; before, it has a budget of tokens."""

_NO_SAMPLING: Final = (4, 7)
"""From here on ``temperature``, ``top_p`` and ``top_k`` are refused, and there is the effort ``xhigh``."""

_STRICT: Final = (4, 5)
"""From here on tools may be ``strict`` (https://platform.claude.com/docs/en/build-with-claude/structured-outputs)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """What a model takes."""

    adaptive: bool
    sampling: bool
    xhigh: bool
    strict: bool


def generation_of(model: str) -> Generation:
    """Return what the model of that name takes."""
    name = model.lower()
    if "claude" not in name:
        return Generation(adaptive=False, sampling=True, xhigh=False, strict=True)
    version = _version_of(name)
    return Generation(
        adaptive=version >= _ADAPTIVE,
        sampling=version < _NO_SAMPLING,
        xhigh=version >= _NO_SAMPLING,
        strict=version >= _STRICT,
    )


def _version_of(name: str) -> tuple[int, int]:
    found = _VERSION.search(name)
    return (int(found[1]), int(found[2] or 0)) if found else (99, 0)
