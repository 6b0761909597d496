"""``flatfee accounts``: who pays, and for which plan."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from flatfee.cli.admin.asking import YesOption, confirm
from flatfee.cli.admin.client import path
from flatfee.cli.admin.reach import ConfigOption, JsonOption, UrlOption, admin
from flatfee.cli.admin.tables import show_done, show_list, show_one
from flatfee.wire import Billing

accounts = typer.Typer(name="accounts", help="Accounts: who pays, and for which plan.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="The account's name.")]
DayOption = Annotated[int | None, typer.Option("--billing-day", min=1, max=31, help="The day its months begin.")]
BillingOption = Annotated[Billing | None, typer.Option("--billing", help="Its billing state.")]

_COLUMNS: Final = {
    "account": "name",
    "plan": "plan",
    "billing": "billing",
    "day": "billing_day",
    "from the file": "from_file",
    "created": "created_at",
}


@accounts.command("list")
def list_accounts(url: UrlOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show every account."""
    with admin(url, config, as_json=as_json) as api:
        show_list(api.all("/accounts"), _COLUMNS, as_json=as_json)


@accounts.command()
def create(
    name: NameArgument,
    plan: Annotated[str, typer.Option("--plan", help="A plan of the configuration.")],
    billing: BillingOption = None,
    billing_day: DayOption = None,
    url: UrlOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an account."""
    with admin(url, config, as_json=as_json) as api:
        body = {"name": name, "plan": plan, "billing": billing, "billing_day": billing_day}
        show_one(api.post("/accounts", body), as_json=as_json)


@accounts.command()
def show(name: NameArgument, url: UrlOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show one account."""
    with admin(url, config, as_json=as_json) as api:
        show_one(api.get(path("accounts", name)), as_json=as_json)


@accounts.command()
def change(
    name: NameArgument,
    plan: Annotated[str | None, typer.Option("--plan", help="Another plan: what was used stays used.")] = None,
    billing: BillingOption = None,
    billing_day: DayOption = None,
    url: UrlOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change an account's plan, billing state or billing day. Holds from the next request on."""
    with admin(url, config, as_json=as_json) as api:
        body = {"plan": plan, "billing": billing, "billing_day": billing_day}
        show_one(api.patch(path("accounts", name), body), as_json=as_json)


@accounts.command()
def delete(
    name: NameArgument,
    yes: YesOption = False,
    url: UrlOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove an account and its projects. Its keys stop working at once, its receipts are kept."""
    with admin(url, config, as_json=as_json) as api:
        where = path("accounts", name)
        confirm(f"Remove account {name!r}, and end all of its keys?", yes=yes)
        show_done(api.delete(where), f"Account {name!r} is removed.", as_json=as_json)
