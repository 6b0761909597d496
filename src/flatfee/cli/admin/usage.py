"""``flatfee usage``: what an account has used of its window."""

from __future__ import annotations

from typing import Annotated

import typer

from flatfee.cli.admin.client import path
from flatfee.cli.admin.reach import ConfigOption, JsonOption, UrlOption, admin
from flatfee.cli.admin.tables import show_one


def usage(
    account: Annotated[str, typer.Argument(help="The account's name.")],
    url: UrlOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what an account has used of its window, and what is left."""
    with admin(url, config, as_json=as_json) as api:
        show_one(api.get(path("accounts", account, "usage")), as_json=as_json)
