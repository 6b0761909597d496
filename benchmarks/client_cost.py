"""Takes the figures of the clients: start, memory, CPU for each call and event, and a crowd of streams.

Runs ``client_child`` once for each contender and round, in turn; does not measure itself.
"""

from __future__ import annotations

import compileall
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.alone import hidden
from benchmarks.children import ROOT, cores, python, run
from benchmarks.client_child import HIDDEN_ENV
from benchmarks.contenders import CONTENDERS
from benchmarks.targets import fake_upstream

CROWD: Final = ("httpx + json", "flatfee", "flatfee on httpx2", "openai-python")
"""Who reads many streams at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientEffort:
    """How much to ask for in each of ``rounds`` rounds; ``crowd`` streams at once in each of ``crowd_rounds``."""

    rounds: int
    calls: int
    streams: int
    crowd: int
    crowd_rounds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSample:
    """What one fresh process saw in one round; ``figures`` are those of ``client_child``."""

    client: str
    round: int
    figures: dict[str, float]


def measure(effort: ClientEffort, folder: Path, say: Callable[[str], None]) -> list[ClientSample]:
    """Run every contender in turn, a fresh process each time.

    Raises:
        BenchmarkFailed: a client could not be imported, or read a wrong answer.
    """
    say("clients …")
    # An installed package is compiled; a checkout may not be, and would pay for it at every start.
    compileall.compile_dir(str(ROOT / "src" / "flatfee"), quiet=2)
    with fake_upstream(folder, receipt=True) as upstream:
        single = [_one(name, number, upstream.url, effort, 0) for number in range(effort.rounds) for name in CONTENDERS]
        say(f"{effort.crowd} streams at once …")
        return single + [
            _one(name, number, upstream.url, effort, effort.crowd)
            for number in range(effort.crowd_rounds)
            for name in CROWD
        ]


def _one(name: str, number: int, url: str, effort: ClientEffort, crowd: int) -> ClientSample:
    counts = (str(effort.calls), str(effort.streams), str(crowd))
    command = python("benchmarks.client_child", name, url, *counts)
    env = {HIDDEN_ENV: ",".join(_hidden(name))}
    return ClientSample(
        client=name, round=number, figures=json.loads(run(command, core=cores()[0], timeout=300, env=env))
    )


def _hidden(name: str) -> list[str]:
    shown = {"httpx2"} if name.endswith("httpx2") else set[str]()
    beside = {"httpcore2", "truststore"} if shown else set[str]()
    return [module for module in hidden(CONTENDERS[name].distribution) if module not in shown | beside]
