"""``flatfee receipts``: what was charged, and giving it back."""

from __future__ import annotations

from typing import Annotated, Final

import typer
from rich.console import Console

from flatfee.cli.admin.asking import YesOption, confirm
from flatfee.cli.admin.client import MAX_PAGE, Json, cursor, path
from flatfee.cli.admin.export import export
from flatfee.cli.admin.reach import ConfigOption, JsonOption, UrlOption, admin
from flatfee.cli.admin.tables import show_list, show_one
from flatfee.cli.show import print_receipt
from flatfee.receipt import Receipt

receipts = typer.Typer(name="receipts", help="Receipts: what was served, why, and its charge.", no_args_is_help=True)
receipts.command()(export)

IdArgument = Annotated[str, typer.Argument(help="The request's id, req_…")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, max=MAX_PAGE, help="How many, the newest first.")]
AfterOption = Annotated[str | None, typer.Option("--after", help="Go on after this one.")]

_COLUMNS: Final = {
    "request": "request_id",
    "created": "created_at",
    "state": "state",
    "lane": "lane",
    "reason": "reason",
    "route": "route",
    "charged": "fair_use.charged",
    "workflow": "workflow.id",
}


@receipts.command("list")
def list_receipts(
    account: Annotated[str | None, typer.Option("--account", help="Only this account's.")] = None,
    project: Annotated[str | None, typer.Option("--project", help="Only this project's of the account.")] = None,
    workflow: Annotated[str | None, typer.Option("--workflow", help="Only this agent run's.")] = None,
    lane: Annotated[str | None, typer.Option("--lane", help="Only those served on this lane.")] = None,
    limit: LimitOption = 20,
    after: AfterOption = None,
    url: UrlOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show receipts, the newest first."""
    with admin(url, config, as_json=as_json) as api:
        wanted = {"account": account, "project": project, "workflow": workflow, "lane": lane, "after": after}
        page = api.get("/receipts", limit=limit, **wanted)
        show_list(page, _COLUMNS, as_json=as_json, more=f"There are more: --after {cursor(page)}")


@receipts.command()
def show(
    request_id: IdArgument, url: UrlOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Show one receipt."""
    with admin(url, config, as_json=as_json) as api:
        _show(api.get(path("receipts", request_id)), as_json=as_json)


@receipts.command()
def refund(
    request_id: IdArgument,
    units: Annotated[
        int | None, typer.Option("--units", min=1, help="How much to give back. Default: all of it.")
    ] = None,
    note: Annotated[str | None, typer.Option("--note", help="Why; it is kept in the audit log.")] = None,
    yes: YesOption = False,
    url: UrlOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give back what a request was charged. It counts in the window of the request."""
    with admin(url, config, as_json=as_json) as api:
        where = path("receipts", request_id, "refund")
        what = f"{units:,} units" if units is not None else "everything"
        confirm(f"Give back {what} of what request {request_id} was charged?", yes=yes)
        _show(api.post(where, {"units": units, "note": note}), as_json=as_json)


def _show(told: Json, *, as_json: bool) -> None:
    receipt = Receipt.from_object(told)
    if as_json or receipt is None:
        show_one(told, as_json=as_json)
    else:
        print_receipt(Console(), receipt)
