"""``flatfee doctor``: what is in the way of a good run, and the cure of each. Only shows; the server examines."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.text import Text

from flatfee.cli.asking import print_json
from flatfee.cli.serve import DEFAULT_FILE
from flatfee.cli.show import one_line

if TYPE_CHECKING:
    from flatfee.server.doctor.finding import Finding
    from flatfee.server.settings import Settings

_LOOKS: Final = {"ok": ("ok  ", "green"), "warn": ("warn", "bold yellow"), "fail": ("FAIL", "bold red")}
"""Verdict → how it is written, and its style."""


def doctor(
    config: Annotated[Path, typer.Option(help="The configuration file.")] = DEFAULT_FILE,
    live: Annotated[
        bool, typer.Option("--live", help="Ask each route for one token, which its provider bills.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object instead: ok, findings.")] = False,
) -> None:
    """Check what a gateway needs to run well, and tell the cures.

    Looks at configuration, ledger, clock, providers and machine. Nothing is changed, and without --live no
    provider is asked for a completion. May run beside a gateway. Exits with 1 if something fails, with 2 if the
    configuration cannot be read; warnings alone are 0.
    """
    from flatfee.server.doctor.examine import Unreadable, examine, read
    from flatfee.server.doctor.machine import Machine

    try:
        settings = read(config, os.environ)
    except Unreadable as error:
        _show(error.findings, as_json=as_json)
        raise typer.Exit(2) from error
    findings = examine(config, settings, os.environ, Machine.this())
    if live:
        findings = chain(findings, _live(settings))
    if not _show(findings, as_json=as_json):
        raise typer.Exit(1)


def _live(settings: Settings) -> Iterator[Finding]:
    """Try the routes, once what costs nothing is known. What it costs is said before it is spent."""
    from flatfee.server.doctor.live import try_routes

    routes = len(settings.routes)
    Console(stderr=True).print(f"Asking {routes} {'route' if routes == 1 else 'routes'} for about one token each …")
    yield from try_routes(settings, os.environ)


def _show(findings: Iterable[Finding], *, as_json: bool) -> bool:
    """Show each finding as it is known, or all of them as JSON; tell whether none fails."""
    console = Console()
    seen: list[Finding] = []
    for finding in findings:
        seen.append(finding)
        if not as_json:
            word, style = _LOOKS[finding.verdict]
            cure = f". {finding.cure}" if finding.cure else ""
            line = Text.assemble((word, style), f" {one_line(f'{finding.check}: {finding.found}{cure}')}")
            console.print(line, soft_wrap=not console.is_terminal)
    well = all(finding.verdict != "fail" for finding in seen)
    if as_json:
        print_json({"ok": well, "findings": [dataclasses.asdict(finding) for finding in seen]})
    return well
