"""How the demo looks: a table that grows on a terminal, a line for each step anywhere else."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Final, Literal, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from flatfee.cli.demo.script import Step
from flatfee.cli.show import count, lane_text, one_line
from flatfee.errors import FallbackExhausted
from flatfee.receipt import FairUse, Receipt

_HEADS: Final = ("step", "lane", "reason", "served by", "charged", "left")
_WIDTHS: Final = (16, 12, 18, 13, 7, 4)
"""Columns; together with their gaps as wide as the narrowest usual terminal."""
_GAP: Final = 2
_NUMBERS: Final = frozenset({"charged", "left"})
_BAR_WIDTH: Final = 40


class Stage:
    """An ``Audience`` that shows what it sees. ``live`` redraws; otherwise each step is one plain line."""

    def __init__(self, console: Console, fair_use: int, *, live: bool) -> None:
        self._console = console
        self._fair_use = fair_use
        self._left = fair_use
        self._rows: list[tuple[Text, ...]] = []
        self._now = ""
        self._live = Live(console=console, refresh_per_second=20, transient=False) if live else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        else:
            self._line([Text(head) for head in _HEADS])
        self._redraw()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._now = ""
        self._redraw()
        if self._live:
            self._live.stop()
        else:
            self._print(self._bar())

    def begins(self, step: Step) -> None:
        """Show that a step runs, and what fails from now on."""
        for provider in step.failing:
            self._add(f"{provider} fails now", style="dim")
        self._now = f"{step.says} …"
        self._redraw()

    def hears(self, text: str) -> None:
        """Show the end of what a stream has delivered."""
        self._now = one_line(text)[-self._console.width :]
        self._redraw()

    def served(self, step: Step, receipt: Receipt) -> None:
        """Add the row of a step that was served."""
        use = receipt.fair_use or FairUse()
        self._left = self._left if use.remaining is None else use.remaining
        self._add(
            step.says,
            lane_text(receipt.lane),
            receipt.reason or "-",
            receipt.route or "-",
            count(use.charged),
            count(use.remaining),
        )

    def failed(self, step: Step, error: FallbackExhausted) -> None:
        """Add the row of a step that nobody could serve, and a row for each attempt."""
        self._add(step.says, "none", Text(type(error).__name__, style="white on red"), "nobody", "-", count(self._left))
        for attempt in error.attempts:
            tried = Text("  tried", style="dim")  # a Text keeps its indent
            self._add(tried, "", f"{attempt.outcome} {attempt.status or ''}", attempt.route, style="dim")

    def _add(self, *cells: str | Text, style: str = "") -> None:
        texts = [Text(one_line(cell), style=style) if isinstance(cell, str) else cell for cell in cells]
        self._now = ""
        self._rows.append(tuple(texts))
        if self._live is None:
            self._line(texts)
        self._redraw()

    def _line(self, cells: Sequence[Text]) -> None:
        padded = [
            cell.plain.rjust(width) if head in _NUMBERS else cell.plain.ljust(width)
            for head, width, cell in zip(_HEADS, _WIDTHS, cells, strict=False)
        ]
        self._print(Text((" " * _GAP).join(padded).rstrip()))

    def _print(self, what: RenderableType) -> None:
        self._console.print(what, soft_wrap=True)
        self._console.file.flush()

    def _redraw(self) -> None:
        if self._live:
            now = Text(self._now, style="dim italic", no_wrap=True)
            self._live.update(Group(self._table(), Text(), self._bar(), now))

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="dim")
        for head, width in zip(_HEADS, _WIDTHS, strict=True):
            side: Literal["left", "right"] = "right" if head in _NUMBERS else "left"
            table.add_column(head, justify=side, min_width=width, no_wrap=True, overflow="ellipsis")
        for row in self._rows:
            table.add_row(*row)
        return table

    def _bar(self) -> RenderableType:
        words = f"fair-use: {count(self._left)} of {count(self._fair_use)} units left"
        if self._live is None:
            return Text(words)
        bar = Table.grid(padding=(0, 1))
        colour = "green" if self._left * 4 > self._fair_use else "yellow"
        bar.add_row(
            ProgressBar(self._fair_use, self._left, width=_BAR_WIDTH, complete_style=colour, finished_style=colour),
            Text(words),
        )
        return bar
