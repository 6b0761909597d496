"""What is asked before something is ended for good, and how a secret is shown once."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from flatfee.cli.admin.reach import end
from flatfee.cli.asking import print_json
from flatfee.cli.show import one_line

YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask first.")]


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is done that cannot be taken back. Where nobody can answer, only ``--yes`` does it.

    Standard output stays free for the answer.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        end(f"{question} There is no terminal to answer on: pass --yes to do it.", 2)
    typer.confirm(one_line(question), abort=True, err=True)


def show_secret(key: dict[str, Any], *, as_json: bool) -> None:
    """Write a new key's secret to standard output, and what is to be known of it to standard error."""
    if as_json:
        print_json(key)
        return
    typer.echo(key["secret"])
    until = f", until {key['expires_at']}" if key.get("expires_at") else ""
    note = f"Key {key['id']} ({key['name']}){until}. The secret above is not shown again."
    typer.echo(one_line(note), err=True)
