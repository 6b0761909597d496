"""The ``flatfee`` command and its options."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from flatfee.cli.admin.accounts import accounts
from flatfee.cli.admin.audit import audit
from flatfee.cli.admin.keys import keys
from flatfee.cli.admin.plans import plans
from flatfee.cli.admin.projects import projects
from flatfee.cli.admin.receipts import receipts
from flatfee.cli.admin.reload import reload
from flatfee.cli.admin.routes import routes
from flatfee.cli.admin.usage import usage
from flatfee.cli.chat import chat
from flatfee.cli.demo import demo
from flatfee.cli.doctor import doctor
from flatfee.cli.init import init
from flatfee.cli.policy import policy
from flatfee.cli.route import route
from flatfee.cli.serve import serve
from flatfee.cli.testing.drift import drift

app = typer.Typer(
    name="flatfee",
    help="One flat fee, and a receipt for every model request.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
for _command in (demo, init, serve, reload, doctor, chat, route, usage, drift):
    app.command()(_command)
for _group in (accounts, projects, keys, plans, routes, receipts, audit, policy):
    app.add_typer(_group)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"flatfee {version('flatfee')}")
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """One flat fee, and a receipt for every model request."""
    del show_version
