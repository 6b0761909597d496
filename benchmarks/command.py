"""What the commands that measure do alike: choices, progress, raw figures, and how a run ends. No measuring."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, Protocol

from benchmarks.children import BenchmarkFailed


class Main(Protocol):
    """A command: it takes arguments, those of the process without any, and returns its exit code."""

    def __call__(self, arguments: Sequence[str] | None = None) -> int:
        """Run it."""
        ...


def ends_well(main: Main) -> Main:
    """Let a command end every server that it started, and tell in one line what failed."""

    @wraps(main)
    def command(arguments: Sequence[str] | None = None) -> int:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every server is ended on the way out
        try:
            return main(arguments)
        except BenchmarkFailed as failure:
            print(f"Benchmark failed: {failure}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130

    return command


def keep(raw: Mapping[str, Any], path: Path) -> None:
    """Keep the raw figures of a run, and tell where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(raw, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"raw figures: {path}")


def some_of(what: str, known: Collection[str]) -> Callable[[str], tuple[str, ...]]:
    """Return what reads a list of names, separated by commas, that must be among the known ones."""

    def read(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown {what} {unknown[0]!r}; use some of {', '.join(known)}")
        return names

    return read


def say(text: str) -> None:
    """Tell progress where it does not disturb a piped report."""
    print(text, file=sys.stderr, flush=True)
