"""``flatfee audit``: who changed what."""

from __future__ import annotations

from typing import Final

import typer

from flatfee.cli.admin.client import cursor
from flatfee.cli.admin.reach import ConfigOption, JsonOption, UrlOption, admin
from flatfee.cli.admin.receipts import AfterOption, LimitOption
from flatfee.cli.admin.tables import show_list

audit = typer.Typer(name="audit", help="The log of every administrative change.", no_args_is_help=True)

_COLUMNS: Final = {"at": "at", "actor": "actor", "action": "action", "subject": "subject", "details": "details"}


@audit.command("list")
def list_entries(
    limit: LimitOption = 20,
    after: AfterOption = None,
    url: UrlOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what was changed, by whom, and when; the newest first."""
    with admin(url, config, as_json=as_json) as api:
        page = api.get("/audit", limit=limit, after=after)
        show_list(page, _COLUMNS, as_json=as_json, more=f"There are more: --after {cursor(page)}")
