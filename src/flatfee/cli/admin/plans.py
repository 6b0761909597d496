"""``flatfee plans``: what the configuration offers. Plans are changed in the file, not here."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from flatfee.cli.admin.reach import ConfigOption, JsonOption, UrlOption, admin, end
from flatfee.cli.admin.tables import show_list, show_one

plans = typer.Typer(name="plans", help="Plans of the configuration.", no_args_is_help=True)

_COLUMNS: Final = {
    "plan": "name",
    "fair use": "fair_use",
    "meter": "meter",
    "window": "window",
    "workflows": "concurrent_workflows",
    "requests a minute": "requests_per_minute",
    "continuation": "continuation",
    "its limit": "continuation_limit",
}


@plans.command("list")
def list_plans(url: UrlOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show every plan."""
    with admin(url, config, as_json=as_json) as api:
        show_list(api.get("/plans"), _COLUMNS, as_json=as_json)


@plans.command()
def show(
    name: Annotated[str, typer.Argument(help="The plan's name.")],
    url: UrlOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show everything a plan says."""
    with admin(url, config, as_json=as_json) as api:
        found = {plan["name"]: plan for plan in api.get("/plans")["data"]}
        if name not in found:
            end(f"There is no plan {name!r}; use one of: {', '.join(found)}.", 1)
        show_one(found[name], as_json=as_json)
