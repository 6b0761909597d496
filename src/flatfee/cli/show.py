"""How receipts and lanes look on a terminal. Only looks: nothing here asks or decides.

Text that came over the wire is shown through ``safe`` or ``Text``: it may hold control characters
or what would be markup.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from flatfee.receipt import Attempt, Compaction, FairUse, Receipt, TokenUsage
from flatfee.wire import Lane, ReceiptState

LANE_STYLES: Final[Mapping[str, str]] = {
    Lane.PREMIUM: "bold magenta",
    Lane.BUDGET: "bold green",
    Lane.CONTINUATION: "bold yellow",
    Lane.FALLBACK: "bold red",
}
"""Lane → style; a lane that is not known yet has none."""

_KEPT: Final = frozenset("\n\t")


def safe(text: str) -> str:
    """Return ``text`` without the control characters by which it could steer a terminal."""
    if text.isprintable():
        return text
    return "".join("\N{REPLACEMENT CHARACTER}" if _is_control(char) else char for char in text)


def _is_control(char: str) -> bool:
    return (char < " " and char not in _KEPT) or "\x7f" <= char <= "\x9f"


def one_line(text: str) -> str:
    """Return ``text`` safe, and on one line."""
    return " ".join(safe(text).split())


def lane_text(lane: str | None) -> Text:
    """Return a lane in its colour."""
    return Text(one_line(lane), style=LANE_STYLES.get(lane, "")) if lane else Text("-", style="dim")


def count(number: int | None) -> str:
    """Return a figure for people; a dash where it was not told."""
    return "-" if number is None else f"{number:,}"


def print_receipt(console: Console, receipt: Receipt) -> None:
    """Show one receipt: a sentence, and the figures that the gateway told."""
    console.print(Text(one_line(receipt.explain()), style="italic"), soft_wrap=not console.is_terminal)
    console.print(facts_table(_receipt_rows(receipt)))


def _receipt_rows(receipt: Receipt) -> Sequence[tuple[str, RenderableType | None]]:
    served = " via ".join(part for part in (receipt.model_served, receipt.route) if part)
    use = receipt.fair_use or FairUse()
    left = f"{count(use.remaining)} of {count(use.limit)}" if use.limit is not None else count(use.remaining)
    return (
        ("lane", lane_text(receipt.lane) if receipt.lane else None),
        ("reason", receipt.reason),
        ("served by", served or None),
        ("charged", _charged(receipt, use)),
        ("fair-use left", left if use.remaining is not None else None),
        ("tokens", _tokens(receipt.usage)),
        ("left out", _left_out(receipt.compaction)),
        ("workflow", receipt.workflow.id if receipt.workflow else None),
        ("attempts", _attempts(receipt.attempts or ())),
        ("request", receipt.request_id),
    )


def _charged(receipt: Receipt, use: FairUse) -> str | None:
    if use.charged is None:
        return None
    return f"about {count(use.charged)}" if receipt.state == ReceiptState.ESTIMATED else count(use.charged)


def _tokens(usage: TokenUsage | None) -> str | None:
    if usage is None:
        return None
    cached = f" ({count(usage.cached_tokens)} cached)" if usage.cached_tokens else ""
    return f"{count(usage.prompt_tokens)} in{cached}, {count(usage.completion_tokens)} out"


def _left_out(compaction: Compaction | None) -> str | None:
    if compaction is None or compaction.saved_tokens is None:
        return None
    return f"about {count(compaction.saved_tokens)} of {count(compaction.prompt_tokens)} tokens, in old tool results"


def _attempts(attempts: Sequence[Attempt]) -> str | None:
    return "\n".join(_attempt(attempt) for attempt in attempts) or None


def _attempt(attempt: Attempt) -> str:
    status = f" {attempt.status}" if attempt.status is not None else ""
    took = f" after {count(attempt.duration_ms)} ms" if attempt.duration_ms is not None else ""
    return one_line(f"{attempt.route}: {attempt.outcome}{status}{took}")


def facts_table(rows: Sequence[tuple[str, RenderableType | None]]) -> Table:
    """Return the rows that have a value as a table of two columns."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        if value is not None:
            table.add_row(name, Text(safe(value)) if isinstance(value, str) else value)
    return table
