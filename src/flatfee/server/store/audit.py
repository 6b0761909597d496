"""The books' own check: what is kept as balances must follow from the entries. Pure."""

from __future__ import annotations

from flatfee.server.store.ledger import Balance
from flatfee.server.windows import Window


def disagreement(account: str, unit: str, window: Window, kept: Balance, rebuilt: Balance) -> str | None:
    """Say how a kept balance differs from what its entries and open tickets come to; ``None`` if it does not."""
    if kept == rebuilt and min(kept.posted, kept.pending, kept.continuation_posted, kept.continuation_pending) >= 0:
        return None
    return f"account {account!r}, {unit}s of {window.start}..{window.end}: kept {kept}, by its entries {rebuilt}"
