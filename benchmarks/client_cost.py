"""Takes the figures of the clients: CPU for each call and each streamed event, and the start-up time.

Run as a module it is the child that measures one contender: alone on its core, against the fake
upstream that answers like a gateway, receipt included. Imported it is the parent that runs them in turn.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import traffic
from benchmarks.children import BenchmarkFailed, cores, python, run
from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.targets import fake_upstream

_WARMUP_CALLS: Final = 20
_WARMUP_STREAMS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientEffort:
    """How much to ask for in each of ``rounds`` rounds."""

    rounds: int
    calls: int
    streams: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientFigures:
    """What one fresh process saw. CPU is user and system time of all its threads."""

    start_ms: float
    call_cpu_us: float
    event_cpu_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSample:
    """One round of one contender."""

    client: str
    round: int
    figures: ClientFigures


def measure(effort: ClientEffort, folder: Path, say: Callable[[str], None]) -> list[ClientSample]:
    """Run every contender in turn, a fresh process each time.

    Raises:
        BenchmarkFailed: a client could not be imported, or read a wrong answer.
    """
    say("clients …")
    with fake_upstream(folder, receipt=True) as upstream:
        return [
            ClientSample(client=name, round=number, figures=_one(name, upstream.url, effort))
            for number in range(effort.rounds)
            for name in CONTENDERS
        ]


def _one(name: str, url: str, effort: ClientEffort) -> ClientFigures:
    counts = ("--calls", str(effort.calls), "--streams", str(effort.streams))
    command = python("benchmarks.client_cost", "--client", name, "--url", url, *counts)
    return ClientFigures(**json.loads(run(command, core=cores()[0], timeout=120)))


def observe(contender: Contender, url: str, *, calls: int, streams: int) -> ClientFigures:
    """Measure one contender in this process, which must not have imported it before.

    Raises:
        BenchmarkFailed: an answer was not the fixed one.
    """
    begun = time.perf_counter()
    client = contender.make(f"{url}/v1")
    start = time.perf_counter() - begun
    plain = traffic.request_fields("plain", "at_once")
    streamed = traffic.request_fields("stream", "at_once")
    _ask(contender, client, plain, _WARMUP_CALLS)
    call_cpu = _ask(contender, client, plain, calls) / calls
    _stream(contender, client, streamed, _WARMUP_STREAMS)
    event_cpu = _stream(contender, client, streamed, streams) / (streams * traffic.STREAM_EVENTS)
    client.close()
    return ClientFigures(start_ms=start * 1e3, call_cpu_us=call_cpu * 1e6, event_cpu_us=event_cpu * 1e6)


def _ask(contender: Contender, client: Any, fields: dict[str, Any], times: int) -> float:
    """Ask and return the CPU seconds that took."""
    begun = time.process_time()
    texts = [contender.ask(client, fields) for _ in range(times)]
    spent = time.process_time() - begun
    _check([[text] for text in texts], 1)
    return spent


def _stream(contender: Contender, client: Any, fields: dict[str, Any], times: int) -> float:
    """Read streams to their end and return the CPU seconds that took, the calls themselves included."""
    begun = time.process_time()
    streams = [list(contender.stream(client, fields)) for _ in range(times)]
    spent = time.process_time() - begun
    _check(streams, traffic.STREAM_EVENTS - 3)
    return spent


def _check(answers: Sequence[Sequence[str | None]], pieces: int) -> None:
    for answer in answers:
        found = sum(1 for text in answer if text and text.startswith(traffic.MARKER))
        if found != pieces:
            raise BenchmarkFailed(f"The client read {found} pieces of text where {pieces} were sent.")


def main() -> None:
    """Run as a process of its own; the figures go to standard output as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--client", choices=list(CONTENDERS), required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--calls", type=int, required=True)
    parser.add_argument("--streams", type=int, required=True)
    options = parser.parse_args()
    figures = observe(CONTENDERS[options.client], options.url, calls=options.calls, streams=options.streams)
    print(json.dumps(asdict(figures)))


if __name__ == "__main__":
    main()
