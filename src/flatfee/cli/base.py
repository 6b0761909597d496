"""The ``flatfee`` command as it is without any of its commands: its name, its help and its own options."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer


def new_app() -> typer.Typer:
    """Make the command; who calls this adds the commands that it has."""
    app = typer.Typer(
        name="flatfee",
        help="One flat fee, and a receipt for every model request.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_show_locals=False,
    )
    app.callback()(_options)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"flatfee {version('flatfee')}")
        raise typer.Exit


def _options(
    show_version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """One flat fee, and a receipt for every model request."""
    del show_version
