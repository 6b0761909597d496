"""``flatfee policy test``: an operator's cases against a configuration. Reads and shows; the casebook compares."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.text import Text

from flatfee.cli.asking import print_json
from flatfee.cli.serve import DEFAULT_FILE
from flatfee.cli.show import one_line
from flatfee.cli.show_plan import print_rules
from flatfee.types import RuleTrace

if TYPE_CHECKING:
    from flatfee.server.inspecting.casebook import Casebook, Difference, Outcome
    from flatfee.server.settings import Settings

_INDENT: Final = "       "


def run_cases(
    file: Annotated[Path, typer.Argument(help="The cases, as TOML; '-' reads standard input.")],
    config: Annotated[Path, typer.Option(help="The configuration file.")] = DEFAULT_FILE,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object: ok, passed, failed, cases.")] = False,
) -> None:
    """Compare what a configuration decides with a table of cases. No gateway, no key and no provider is asked.

    Exits with 0 if every case is as expected, with 1 if one is not, with 2 if the cases or the configuration are wrong.
    """
    from flatfee.server.inspecting.casebook import try_case

    now = datetime.now(UTC)
    book, settings = _read(file, config)
    outcomes = [try_case(case, settings, now) for case in book.cases]
    failed = [outcome for outcome in outcomes if not outcome.well]
    if as_json:
        print_json(
            {
                "ok": not failed,
                "passed": len(outcomes) - len(failed),
                "failed": len(failed),
                "cases": [_as_json(outcome) for outcome in outcomes],
            }
        )
    else:
        _show(outcomes, Console())
    raise typer.Exit(1 if failed else 0)


def _read(file: Path, config: Path) -> tuple[Casebook, Settings]:
    """Read both files, or end the command with what is wrong."""
    from flatfee.server.configuration import SettingsError, read_settings, read_text
    from flatfee.server.inspecting.casebook import read_casebook

    try:
        settings = read_settings(config, os.environ)
        text = sys.stdin.read() if str(file) == "-" else read_text(file)
        return read_casebook(text, str(file), settings), settings
    except (SettingsError, UnicodeDecodeError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error


def _show(outcomes: Sequence[Outcome], console: Console) -> None:
    for outcome in outcomes:
        word, style = ("ok  ", "green") if outcome.well else ("FAIL", "bold red")
        line = Text.assemble((word, style), f" {one_line(outcome.case)}")
        console.print(line, soft_wrap=not console.is_terminal)
        if not outcome.well:
            _show_why(outcome, console)
    failed = sum(not outcome.well for outcome in outcomes)
    told = f"{len(outcomes)} cases, {failed} failed" if failed else f"{len(outcomes)} cases, all as expected"
    console.print(Text(f"\n{told}", style="bold"))


def _show_why(outcome: Outcome, console: Console) -> None:
    """Show what differs, and how the decision came about."""
    for difference in outcome.differences:
        expected, got = _value(difference.expected), _value(difference.got)
        told = Text(_INDENT + one_line(f"{difference.what}: expected {expected}, got {got}"), style="red")
        console.print(told, soft_wrap=True)
    message = outcome.answer.get("message")
    if message is not None:
        console.print(Text(f"{_INDENT}{one_line(str(message))}"), soft_wrap=True)
    print_rules(console, [RuleTrace.model_validate(step) for step in outcome.answer.get("rules", ())])
    console.print()


def _value(value: object) -> str:
    match value:
        case None:
            return "none"
        case False:
            return "nobody"
        case frozenset():
            return f"[{', '.join(sorted(map(str, value)))}]"
        case tuple():
            return f"[{', '.join(map(str, value))}]"
        case _:
            return str(value)


def _as_json(outcome: Outcome) -> Mapping[str, Any]:
    return {
        "name": outcome.case,
        "ok": outcome.well,
        "differences": [_difference(each) for each in outcome.differences],
        "got": outcome.answer,
    }


def _difference(each: Difference) -> Mapping[str, Any]:
    return {"what": each.what, "expected": _plain(each.expected), "got": _plain(each.got)}


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, frozenset) else value
