"""``flatfee projects``: what an account's requests are for."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from flatfee.cli.admin.asking import YesOption, confirm
from flatfee.cli.admin.client import path
from flatfee.cli.admin.reach import ConfigOption, JsonOption, UrlOption, admin
from flatfee.cli.admin.tables import show_done, show_list, show_one
from flatfee.wire import ReceiptDetail

projects = typer.Typer(name="projects", help="Projects: what an account's requests are for.", no_args_is_help=True)

AccountArgument = Annotated[str, typer.Argument(help="The account it belongs to.")]
NameArgument = Annotated[str, typer.Argument(help="The project's name.")]

_COLUMNS: Final = {"project": "name", "receipts": "receipts", "created": "created_at"}


@projects.command("list")
def list_projects(
    account: AccountArgument, url: UrlOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Show every project of an account. Without a word on receipts, the configuration's detail holds."""
    with admin(url, config, as_json=as_json) as api:
        show_list(api.all(path("accounts", account, "projects")), _COLUMNS, as_json=as_json)


@projects.command()
def create(
    account: AccountArgument,
    name: NameArgument,
    receipts: Annotated[
        ReceiptDetail | None,
        typer.Option("--receipts", help="How much its receipts tell. Default: the configuration's."),
    ] = None,
    url: UrlOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a project."""
    with admin(url, config, as_json=as_json) as api:
        made = api.post(path("accounts", account, "projects"), {"name": name, "receipts": receipts})
        show_one(made, as_json=as_json)


@projects.command()
def change(
    account: AccountArgument,
    name: NameArgument,
    receipts: Annotated[ReceiptDetail, typer.Option("--receipts", help="How much its receipts tell from now on.")],
    url: UrlOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change how much a project's receipts tell."""
    with admin(url, config, as_json=as_json) as api:
        changed = api.patch(path("accounts", account, "projects", name), {"receipts": receipts})
        show_one(changed, as_json=as_json)


@projects.command()
def delete(
    account: AccountArgument,
    name: NameArgument,
    yes: YesOption = False,
    url: UrlOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a project. Its keys stop working at once, its receipts are kept."""
    with admin(url, config, as_json=as_json) as api:
        where = path("accounts", account, "projects", name)
        confirm(f"Remove project {name!r} of account {account!r}, and end all of its keys?", yes=yes)
        show_done(api.delete(where), f"Project {name!r} of account {account!r} is removed.", as_json=as_json)
