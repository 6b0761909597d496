"""How a replay looks on a terminal: both sides of each figure. Only looks: nothing here counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flatfee.cli.show import lane_text, one_line

_TOP: Final = 10
_Row = tuple[Text, object, object]


def show(told: Mapping[str, Any], console: Console) -> None:
    """Show a comparison, as ``telling`` made it."""
    until = f"{_day(told['from'])} to {_day(told['until'])}"
    console.print(Text(f"{told['requests']:,} requests, {until}", style="bold"))
    tables = [_sides(told), _moved(told) if told["moved"] else None, _accounts(told) if told["accounts"] else None]
    for table in tables:
        if table is not None:
            console.print()
            console.print(table)
    console.print()
    for line in _notes(told):
        console.print(Text(line, style="dim"), soft_wrap=not console.is_terminal)


def _sides(told: Mapping[str, Any]) -> Table:
    table = _table("", "was", "would be", "change")
    for rows in _groups(told["was"], told["would"]):
        if not rows:
            continue
        if table.row_count:
            table.add_row()
        for name, was, would in rows:
            table.add_row(name, _value(was), _value(would), _change(was, would))
    return table


def _groups(was: Mapping[str, Any], would: Mapping[str, Any]) -> Iterator[list[_Row]]:
    yield [(lane_text(lane), was["lanes"][lane], would["lanes"][lane]) for lane in would["lanes"]]
    yield _pairs("", was["routes"], would["routes"])
    yield [
        *_pairs("premium {} units", was["premium_units"], would["premium_units"]),
        *_pairs("  {} units on fallback", was["fallback_units"], would["fallback_units"]),
        *_pairs("continuation {} units", was["continuation_units"], would["continuation_units"]),
    ]
    yield _pairs("{}", was["refused"], would["refused"])
    yield [
        _row("workflows refused", was, would, "workflows_refused"),
        _row("accounts that ran out", was, would, "accounts_ran_out"),
        _row("the first ran out", was, would, "first_ran_out_at"),
    ]


def _row(name: str, was: Mapping[str, Any], would: Mapping[str, Any], key: str) -> _Row:
    return Text(name), was[key], would[key]


def _pairs(name: str, was: Mapping[str, int] | None, would: Mapping[str, int] | None) -> list[_Row]:
    names: set[str] = set(was or ()) | set(would or ())
    return [
        (
            Text(one_line((name or "route {}").format(each))),
            was.get(each, 0) if was is not None else None,
            would.get(each, 0) if would is not None else None,
        )
        for each in sorted(names)
    ]


def _moved(told: Mapping[str, Any]) -> Table:
    table = _table("lane was", "would be", "requests")
    for each in told["moved"]:
        table.add_row(lane_text(each["was"]), lane_text(each["would"]), f"{each['requests']:,}")
    return table


def _accounts(told: Mapping[str, Any]) -> Table:
    table = _table("account runs out", "was", "would be", "units was", "would be")
    for each in told["accounts"][:_TOP]:
        was, would = each["was"], each["would"]
        table.add_row(
            Text(one_line(each["account"])),
            _value(was["ran_out_at"] or "never"),
            _value(would["ran_out_at"] or "never"),
            _value(was["premium_units"]),
            _value(would["premium_units"]),
        )
    return table


def _notes(told: Mapping[str, Any]) -> Iterator[str]:
    """Say what the figures rest on."""
    more = len(told["accounts"]) - _TOP
    if more > 0:
        yield f"{more:,} more accounts run out; --json lists them."
    if told["was_from"] == "configuration":
        yield "Both sides are replayed, so that only the configurations differ."
    if told["rerouted"]:
        yield f"{told['rerouted']:,} requests would have taken another route on the same lane."
    if told["guessed"]:
        yield f"{told['guessed']:,} requests that nobody answered would be: the mean answer was assumed for them."
    if told["approximate"]:
        yield f"{told['approximate']:,} receipts do not tell what was asked for: their replay is approximate."
    if told["unjudged"]:
        yield f"{told['unjudged']:,} requests were turned away before any policy saw them, and stay so."
    if told["skipped"]:
        yield f"{told['skipped']:,} lines were no receipts, and are left out."


def _table(first: str, *names: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
    table.add_column(first, no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _value(value: object) -> str:
    match value:
        case None:
            return "-"
        case int():
            return f"{value:,}"
        case str() if "T" in value:
            return value[:16].replace("T", " ")
        case _:
            return str(value)


def _change(was: object, would: object) -> Text:
    if not (isinstance(was, int) and isinstance(would, int)) or was == would:
        return Text("")
    share = f" ({(would - was) / was:+.0%})" if was else ""
    return Text(f"{would - was:+,}{share}", style="bold")


def _day(moment: str | None) -> str:
    return moment[:10] if moment is not None else "-"
