"""``flatfee reload``: have a gateway that runs read its configuration again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import typer

from flatfee.cli.admin.client import Refused
from flatfee.cli.admin.reach import AddressOption, JsonOption, UrlOption, running
from flatfee.cli.asking import print_json
from flatfee.cli.show import one_line

_LISTS: Final = ("providers", "routes", "plans", "accounts", "rules", "aliases")
_SIGNS: Final = {"added": "+", "removed": "-", "changed": "~"}


def reload(url: UrlOption = None, config: AddressOption = None, as_json: JsonOption = False) -> None:
    """Have a running gateway read its configuration again, and show what changed. A bad file changes nothing."""
    with running(url, config, as_json=as_json) as api:
        try:
            told = api.post("/reload", {})
        except Refused as refused:
            if refused.code in {"invalid_api_key", "permission_denied"}:
                raise
            _tell_why(refused, as_json=as_json)
            raise typer.Exit(1) from refused
    if as_json:
        print_json(told)
        return
    if not told["changed"]:
        typer.echo("Read again: nothing has changed.")
        return
    typer.echo("Read again. What changed holds for every request that begins now:")
    for line in _summary(told):
        typer.echo(f"  {one_line(line)}")


def _tell_why(refused: Refused, *, as_json: bool) -> None:
    """Write each line that the gateway said on a line of its own."""
    if as_json:
        print_json(refused.envelope)
    typer.echo(f"Nothing has changed ({one_line(refused.code)}):", err=True)
    for line in str(refused).splitlines():
        typer.echo(one_line(line), err=True)


def _summary(told: dict[str, Any]) -> Iterator[str]:
    for name in _LISTS:
        words = [sign + entry for kind, sign in _SIGNS.items() for entry in told[name][kind]]
        if words:
            yield f"{name}: {' '.join(words)}"
    if told["settings"]:
        yield f"settings: {' '.join(told['settings'])}"
