"""``flatfee receipts export``: receipts as JSON Lines, oldest first, for a replay or a spreadsheet."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, TextIO

import typer

from flatfee.cli.admin import values
from flatfee.cli.admin.client import Admin, Json
from flatfee.cli.admin.reach import ConfigOption, UrlOption, admin, end
from flatfee.cli.progress import Progress
from flatfee.cli.show import one_line

_TELLS_EVERY: Final = 100


def export(
    account: Annotated[str | None, typer.Option("--account", help="Only this account's.")] = None,
    project: Annotated[str | None, typer.Option("--project", help="Only this project's of the account.")] = None,
    since: Annotated[str | None, typer.Option("--since", help="From this moment on: 2026-11-01, or 30d ago.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="Before this moment.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="A file; default: standard output.")] = None,
    url: UrlOption = None,
    config: ConfigOption = None,
) -> None:
    """Write receipts as JSON Lines, oldest first, after a line for each of their accounts.

    'flatfee policy replay' reads what this writes.
    """
    with admin(url, config, as_json=False) as api, _written(out) as file:
        now = datetime.now(UTC)
        first, last = (values.since(text, now) if text is not None else None for text in (since, until))
        for row in _accounts(api, account):
            _write(file, row)
        written = 0
        with Progress("receipts exported") as progress:
            for row in _receipts(api, account, project, first, last):
                _write(file, row)
                written += 1
                if written % _TELLS_EVERY == 0:
                    progress.at(written)
        typer.echo(f"{written:,} receipts exported.", err=True)


def _accounts(api: Admin, account: str | None) -> Iterator[Json]:
    yield from (row for row in api.each("/accounts") if account in {None, row["name"]})


def _receipts(
    api: Admin, account: str | None, project: str | None, first: float | None, last: float | None
) -> Iterator[Json]:
    from flatfee.server.ids import earliest_id

    after = earliest_id(first) if first is not None else None
    until = earliest_id(last) if last is not None else None
    for row in api.each("/receipts", after=after, order="asc", account=account, project=project):
        if until is not None and row["request_id"] >= until:
            return
        yield row


def _write(file: TextIO, row: Json) -> None:
    file.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")


@contextmanager
def _written(out: Path | None) -> Generator[TextIO]:
    if out is None:
        yield sys.stdout
        return
    try:
        with out.open("w", encoding="utf-8") as file:
            yield file
    except OSError as error:
        end(f"{one_line(str(out))} cannot be written: {error.strerror}.", 2)
