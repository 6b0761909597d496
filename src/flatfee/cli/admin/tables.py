"""How the admin API's answers look: tables on a terminal, whole lines elsewhere. Only looks.

Every text came over the wire, and is shown without what could steer a terminal.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flatfee.cli.asking import print_json
from flatfee.cli.show import one_line

_WIDE: Final = 10_000
"""Columns where nobody looks on: a pipe gets each row on one line, whatever its length."""


def show_list(
    page: Mapping[str, Any],
    columns: Mapping[str, str],
    *,
    as_json: bool,
    more: str | None = None,
    whole: Collection[str] = (),
) -> None:
    """Show a list, a row for each entry. ``columns``: heading → member, ``a.b`` for one inside another.

    ``more`` is said below a list that goes on. ``whole`` are the members that stay in one piece, however
    narrow the terminal is; a list that has some is set closely.
    """
    if as_json:
        print_json(page)
        return
    console = _console()
    if not page["data"]:
        console.print(Text("There are none.", style="dim"))
        return
    table = Table(box=None, pad_edge=False, collapse_padding=bool(whole))
    for number, (heading, member) in enumerate(columns.items()):
        shown = heading if console.is_terminal else heading.replace("\n", " ")
        # What comes first is what people copy, so it stays in one piece.
        table.add_column(shown, header_style="dim", overflow="fold", no_wrap=number == 0 or member in whole)
    for entry in page["data"]:
        table.add_row(*(_cell(member, _of(entry, member)) for member in columns.values()))
    console.print(table)
    if more is not None and page.get("has_more"):
        Console(stderr=True).print(Text(more, style="dim"))


def show_one(entry: Mapping[str, Any], *, as_json: bool) -> None:
    """Show one resource, a line for each member that it has."""
    if as_json:
        print_json(entry)
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _flat(entry):
        table.add_row(Text(one_line(name)), _cell(name, value))
    _console().print(table)


def show_done(told: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """Say what was done."""
    if as_json:
        print_json(told)
    else:
        _console().print(Text(one_line(text)))


def clear() -> None:
    """Empty the terminal, for what is drawn again."""
    _console().clear()


def moment(text: str) -> str:
    """Return a time of the API as people read it."""
    try:
        return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError):
        return one_line(text)


def ago(text: str, now: float) -> str:
    """Return how long before ``now``, in seconds since the epoch, a time of the API was."""
    try:
        seconds = max(0, int(now - datetime.fromisoformat(text).timestamp()))
    except (ValueError, OverflowError):
        return one_line(text)
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_WIDE)


def _flat(entry: Mapping[str, Any], prefix: str = "") -> Sequence[tuple[str, Any]]:
    """Return the members that tell something, those of inner objects after their names."""
    rows: list[tuple[str, Any]] = []
    for name, value in entry.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{name}.")
        elif value is not None and name != "object":
            rows.append((prefix + name, value))
    return rows


def _of(entry: Mapping[str, Any], member: str) -> Any:
    value: Any = entry
    for name in member.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _cell(member: str, value: Any) -> Text:
    if value is None:
        return Text("-", style="dim")
    name = member.rpartition(".")[2]
    if isinstance(value, str) and (name.endswith("_at") or name in {"at", "start", "end"}):
        return Text(moment(value))
    return Text(one_line(_shown(value)))


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={_shown(part)}" for name, part in value.items() if part is not None) or "-"
    if isinstance(value, list):
        return "; ".join(_shown(part) for part in value) or "-"
    return str(value)
