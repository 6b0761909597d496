"""``flatfee keys``: the secrets by which callers and operators are known."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from flatfee.cli.admin.asking import YesOption, confirm, show_secret
from flatfee.cli.admin.client import path
from flatfee.cli.admin.reach import ConfigOption, JsonOption, Misplaced, UrlOption, admin
from flatfee.cli.admin.tables import show_done, show_list
from flatfee.cli.admin.values import moment, seconds

keys = typer.Typer(name="keys", help="Keys: who may ask, and who may administer.", no_args_is_help=True)

IdArgument = Annotated[str, typer.Argument(help="The key's id, such as key_…; 'keys list' shows it.")]

_COLUMNS: Final = {
    "id": "id",
    "name": "name",
    "kind": "kind",
    "account": "account",
    "project": "project",
    "ends in": "last4",
    "state": "state",
    "expires": "expires_at",
    "last used": "last_used_at",
    "source": "source",
}


@keys.command("list")
def list_keys(
    account: Annotated[str | None, typer.Option("--account", help="Only this account's.")] = None,
    project: Annotated[str | None, typer.Option("--project", help="Only this project's of the account.")] = None,
    url: UrlOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show keys, ended ones as well. No secret is shown: none is kept."""
    with admin(url, config, as_json=as_json) as api:
        show_list(api.all("/keys", account=account, project=project), _COLUMNS, as_json=as_json)


@keys.command()
def create(
    name: Annotated[str, typer.Option("--name", help="What to call it.")],
    account: Annotated[str | None, typer.Option("--account", help="The account it asks for.")] = None,
    project: Annotated[str | None, typer.Option("--project", help="The project of the account.")] = None,
    team: Annotated[bool, typer.Option("--team", help="For the whole account instead of a project.")] = False,
    administers: Annotated[bool, typer.Option("--admin", help="For the admin API; it asks no model.")] = False,
    model: Annotated[
        list[str] | None, typer.Option("--model", help="A model that it may ask for; repeat it. Default: all.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", help="When it ends: 30d, or a time such as 2027-01-31T12:00:00Z.")
    ] = None,
    url: UrlOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key, and write its secret to standard output, this once.

    With --account and --project for a project, with --account and --team for a whole account, with
    --admin for the admin API.
    """
    with admin(url, config, as_json=as_json) as api:
        kind = _kind(account, project, team=team, administers=administers)
        until = moment(expires, datetime.now(UTC)) if expires is not None else None
        body = {"kind": kind, "account": account, "project": project, "name": name}
        made = api.post("/keys", {**body, "models": model or None, "expires_at": until})
        show_secret(made, as_json=as_json)


def _kind(account: str | None, project: str | None, *, team: bool, administers: bool) -> str:
    given = (account is not None, project is not None, team, administers)
    kinds = {
        (True, True, False, False): "project",
        (True, False, True, False): "team",
        (False, False, False, True): "admin",
    }
    if given not in kinds:
        raise Misplaced("Say what the key is for: --account A --project P, or --account A --team, or --admin.")
    return kinds[given]


@keys.command()
def rotate(
    key: IdArgument,
    overlap: Annotated[
        str, typer.Option("--overlap", help="How long the old one goes on: 24h; 0 ends it at once.")
    ] = "24h",
    yes: YesOption = False,
    url: UrlOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key that takes the place of another, and write its secret to standard output, this once."""
    with admin(url, config, as_json=as_json) as api:
        where, length = path("keys", key, "rotate"), seconds(overlap)
        if length == 0:
            confirm(f"End key {key} at once? Whoever still uses it is refused.", yes=yes)
        show_secret(api.post(where, {"overlap_seconds": length}), as_json=as_json)


@keys.command()
def revoke(
    key: IdArgument,
    yes: YesOption = False,
    url: UrlOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a key at once, and for good."""
    with admin(url, config, as_json=as_json) as api:
        where = path("keys", key)
        confirm(f"End key {key} for good? Whoever still uses it is refused.", yes=yes)
        show_done(api.delete(where), f"Key {key} is revoked.", as_json=as_json)
