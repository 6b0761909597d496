"""``flatfee drift``: whether providers still answer in the form that recorded tapes have. Only asks and shows."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flatfee.cli.admin.asking import confirm
from flatfee.cli.asking import print_json
from flatfee.cli.serve import DEFAULT_FILE

if TYPE_CHECKING:
    from flatfee.testing.tapes.drift import Question


def drift(
    tapes: Annotated[Path, typer.Argument(help="The folder of the tapes.")],
    config: Annotated[Path, typer.Option(help="The configuration file with the real providers.")] = DEFAULT_FILE,
    only: Annotated[str | None, typer.Option(help="Only tapes of this name; * stands for any part of it.")] = None,
    update: Annotated[bool, typer.Option("--update", help="Write tapes anew where the live answer differs.")] = False,
    at_most: Annotated[int, typer.Option(min=1, help="Refuse to make more requests than this.")] = 100,
    within: Annotated[float, typer.Option(min=1, help="Seconds for all requests together.")] = 600.0,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before the providers are asked.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write one JSON object: drifted, exit_code, compared.")
    ] = False,
) -> None:
    """Ask the real providers what the tapes recorded, and tell where the form of their answers is another one.

    Texts are not compared. Each request is made once, one after the other, and costs what the provider takes for
    it. Exits with 0 if nothing drifted, with 1 if something did, with 2 if that cannot be told.
    """
    from flatfee.server.configuration import SettingsError
    from flatfee.testing.tapes.drift import Drift, find_drift, questions
    from flatfee.testing.tapes.keys import settings_with_providers
    from flatfee.testing.tapes.replay import Tapes
    from flatfee.testing.tapes.tape import TapeError

    try:
        settings = settings_with_providers(config, os.environ)
        asked, others = questions(Tapes.load(tapes).filed, settings, only=only, at_most=at_most)
        if asked:
            confirm(_question(asked, update=update), yes=yes)
        compared = asyncio.run(find_drift(asked, settings, seconds=within, update=update))
    except (SettingsError, TapeError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    found = Drift.of(compared, others)
    if as_json:
        print_json(found.to_dict())
    else:
        typer.echo(found.text())
    raise typer.Exit(found.exit_code)


def _question(asked: list[Question], *, update: bool) -> str:
    counted = Counter(question.route.name for question in asked)
    routes = ", ".join(f"{count} by route {name!r}" for name, count in counted.items())
    written = " and may write tapes anew" if update else ""
    return f"This makes {len(asked)} requests to real providers ({routes}), which may cost money{written}. Go on?"
