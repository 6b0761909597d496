"""The command: write the page and its charts, or tell which of them are not what the figures say."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.children import ROOT
from benchmarks.page.charts import pictures
from benchmarks.page.figures import NoFigures, read
from benchmarks.page.text import NAME, page

FIGURES: Final = ROOT / "docs" / "benchmarks"
INTO: Final = ROOT / "docs" / "operations"
_NOTES: Final = Path(__file__).with_name("notes.md")


def files(figures: Path, notes: str) -> Mapping[str, str]:
    """Return name → text of what the figures of a folder come to; nothing where there are none.

    Raises:
        NoFigures: they cannot be made into a page.
    """
    found = read(figures)
    if found is None:
        return {}
    drawn = {f"{NAME}-{name}.svg": f"{svg}\n" for name, svg in pictures(found).items()}
    return {f"{NAME}.md": page(found, notes), **drawn}


def stale(figures: Path = FIGURES, into: Path = INTO) -> list[str]:
    """Return the names of files that differ from the figures, are missing, or have none to be of.

    Raises:
        NoFigures: the figures cannot be made into a page.
    """
    wanted = files(figures, notes())
    written = {
        path.name: path.read_text("utf-8")
        for path in [*into.glob(f"{NAME}-*.svg"), into / f"{NAME}.md"]
        if path.is_file()
    }
    return sorted(name for name in wanted.keys() | written.keys() if wanted.get(name) != written.get(name))


def notes() -> str:
    """Return what a person wrote beside the goals, if anything."""
    return _NOTES.read_text("utf-8") if _NOTES.is_file() else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check; return the exit code."""
    options = _options(arguments)
    try:
        old = stale(options.figures, options.into)
        wanted = files(options.figures, notes())
    except NoFigures as fault:
        print(fault, file=sys.stderr)
        return 1
    if options.check:
        for name in old:
            print(f"{options.into / name} is stale. Run `make bench-page`.", file=sys.stderr)
        return 1 if old else 0
    if not wanted:
        print(
            f"{options.figures / 'peers.json'} is missing. Run `python -m benchmarks.peers --out` with that path.",
            file=sys.stderr,
        )
        return 1
    options.into.mkdir(parents=True, exist_ok=True)
    for name in old:
        if name in wanted:
            (options.into / name).write_text(wanted[name], encoding="utf-8")
        else:
            (options.into / name).unlink()
    print(f"{options.into / NAME}.md: {len(wanted)} files, {len(old)} of them changed")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail and name the files that are stale")
    parser.add_argument("--figures", type=Path, default=FIGURES, help="where the JSON is (default: %(default)s)")
    parser.add_argument("--into", type=Path, default=INTO, help="where the page goes (default: %(default)s)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
