"""``flatfee policy replay``: past traffic under a changed configuration. Reads and shows; the replay decides."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console

from flatfee.cli.asking import print_json
from flatfee.cli.policy.show_replay import show
from flatfee.cli.progress import Progress
from flatfee.cli.serve import DEFAULT_FILE
from flatfee.cli.show import one_line

if TYPE_CHECKING:
    from flatfee.server.replaying.comparing import Comparison
    from flatfee.server.replaying.engine import Played, Replay
    from flatfee.server.replaying.past import AccountLine

_TELLS_EVERY: Final = 512
_CHARTS: Final = (".svg", ".html")


def replay(
    receipts: Annotated[Path, typer.Argument(help="What 'flatfee receipts export' wrote; '-' reads standard input.")],
    config: Annotated[Path, typer.Option(help="The changed configuration file.")] = DEFAULT_FILE,
    was: Annotated[
        Path | None, typer.Option("--was", help="Replay this one too, and compare with it, not with the receipts.")
    ] = None,
    plan: Annotated[
        list[str] | None, typer.Option("--plan", help="PLAN for all accounts, or ACCOUNT=PLAN; may be repeated.")
    ] = None,
    chart: Annotated[Path | None, typer.Option(help="Draw it into this .svg or .html file.")] = None,
    receipts_out: Annotated[
        Path | None, typer.Option("--receipts-out", help="Write the receipts that would have been, as JSON Lines.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Chance, where routes share by weight.")] = 0,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Pass over lines that are no receipts.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object.")] = False,
) -> None:
    """Show what a configuration would have done to past traffic. No gateway, no key and no provider is asked.

    Requests arrive and end in virtual time, on the gateway's own policy and ledger. Exits with 2 if the receipts or a
    configuration are wrong.
    """
    from flatfee.server.replaying.comparing import Comparison

    if chart is not None and chart.suffix not in _CHARTS:
        _wrong(f"--chart {one_line(str(chart))} must end in .svg or .html.")
    with _mistakes_told():
        known: dict[str, AccountLine] = {}
        after = _replay_of(config, plan or [], known, seed)
        before = _replay_of(was, plan or [], known, seed) if was is not None else None
        comparison = Comparison(after=after, before=before)
        skipped = _run(receipts, comparison, known, receipts_out, skip_bad=skip_bad)
        if not comparison.was.requests:
            _wrong(f"{one_line(str(receipts))} holds no receipt; make it with 'flatfee receipts export'.")
        if chart is not None:
            _draw(comparison, chart, config)
    _tell(comparison, seed, skipped, as_json=as_json)


def _replay_of(config: Path, plans: Sequence[str], known: dict[str, AccountLine], seed: int) -> Replay:
    from flatfee.server.configuration import read_settings
    from flatfee.server.replaying.engine import Dice, Replay
    from flatfee.server.replaying.payers import Payers

    settings = read_settings(config, os.environ)
    assigned = dict(text.split("=", 1) for text in plans if "=" in text)
    everybody = next((text for text in reversed(plans) if "=" not in text), None)
    payers = Payers(settings=settings, assigned=assigned, everybody=everybody, exported=known)
    return Replay(settings, payers, dice=partial(Dice, seed))


def _run(
    receipts: Path, comparison: Comparison, known: dict[str, AccountLine], out: Path | None, *, skip_bad: bool
) -> int:
    """Run the replay; return how many lines were passed over."""
    from flatfee.server.replaying.comparing import in_order
    from flatfee.server.replaying.reading import Reader

    with ExitStack() as stack:
        file = stack.enter_context(receipts.open("rb")) if str(receipts) != "-" else sys.stdin.buffer
        written = stack.enter_context(out.open("wb")) if out is not None else None
        progress = stack.enter_context(Progress("receipts read"))
        size = receipts.stat().st_size if str(receipts) != "-" else 0
        read = 0

        def seen(lines: int, more: int) -> None:
            nonlocal read
            read += more
            if lines % _TELLS_EVERY == 0:
                progress.at(lines, read / size if size else None)

        reader = Reader(file, known, skip_bad=skip_bad, seen=seen)
        for played in comparison.run(in_order(reader)):
            if written is not None:
                _write(written, played)
        return reader.skipped


def _write(file: IO[bytes], played: Played) -> None:
    """Write the receipt that would have been; of a request that no policy decides on, its own."""
    from flatfee.server.replaying.engine import as_line

    file.write(as_line(played) + b"\n")


def _draw(comparison: Comparison, chart: Path, config: Path) -> None:
    from flatfee.server.replaying.chart.drawing import as_html, draw

    title = f"What {config.name} would have done"
    svg = draw(comparison, title)
    chart.write_text(as_html(svg, title) if chart.suffix == ".html" else svg, encoding="utf-8")


def _tell(comparison: Comparison, seed: int, skipped: int, *, as_json: bool) -> None:
    from flatfee.server.replaying import telling

    told = telling.as_json(comparison, seed) | {"skipped": skipped}
    if as_json:
        print_json(told)
    else:
        show(told, Console())


@contextmanager
def _mistakes_told() -> Generator[None]:
    """End the command with one line for what is wrong with its files."""
    from flatfee.server.configuration import SettingsError
    from flatfee.server.replaying.past import BadLine
    from flatfee.server.replaying.payers import NoPlan

    try:
        yield
    except SettingsError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    except (BadLine, NoPlan) as error:
        _wrong(str(error))
    except OSError as error:
        _wrong(f"{one_line(str(error.filename))}: {error.strerror}.")


def _wrong(message: str) -> None:
    typer.echo(one_line(message), err=True)
    raise typer.Exit(2)
