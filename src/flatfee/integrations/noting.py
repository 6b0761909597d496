"""Stand-in until ``flatfee.collecting`` is there."""

from __future__ import annotations

from typing import Any

try:
    from flatfee.collecting import active, note  # type: ignore[import-not-found, unused-ignore]
except ImportError:

    def active() -> Any:
        """Return no run."""
        return None

    def note(receipt: Any) -> None:
        """Do nothing."""


__all__ = ["active", "note"]
