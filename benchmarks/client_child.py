"""The child that measures one client, alone on its core, against the fake upstream that answers like a gateway.

It imports as little as can be before the client, so that the client's own start is told whole.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks import traffic

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

    from benchmarks.contenders import Contender

HIDDEN_ENV: Final = "FLATFEE_BENCH_HIDDEN"
"""The modules that an installation of the client alone would not have, with commas between."""

_WARMUP_CALLS: Final = 20
_WARMUP_STREAMS: Final = 2


class _Hider:
    """A finder that does not find what it hides."""

    hidden = frozenset(filter(None, os.environ.get(HIDDEN_ENV, "").split(",")))

    @classmethod
    def find_spec(cls, name: str, path: object = None, target: object = None) -> ModuleSpec | None:  # noqa: ARG003
        """Refuse a hidden module; leave every other to those who find."""
        if name.partition(".")[0] in cls.hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


def sequential(contender: Contender, url: str, *, calls: int, streams: int) -> dict[str, float]:
    """Measure start, memory, and the cost of sequential calls.

    Raises:
        ValueError: an answer was not the fixed one.
    """
    begun = time.perf_counter()
    __import__(contender.module)
    imported_mb = _resident_mb()
    client = contender.make(f"{url}/v1")
    start = time.perf_counter() - begun
    made_mb = _resident_mb()
    plain = traffic.request_fields("plain", "at_once")
    streamed = traffic.request_fields("stream", "at_once")
    _ask(contender, client, plain, _WARMUP_CALLS)
    call_cpu = _ask(contender, client, plain, calls) / calls
    _stream(contender, client, streamed, _WARMUP_STREAMS)
    event_cpu = _stream(contender, client, streamed, streams) / (streams * traffic.STREAM_EVENTS)
    client.close()
    return {
        "start_ms": start * 1e3,
        "imported_mb": imported_mb,
        "made_mb": made_mb,
        "call_cpu_us": call_cpu * 1e6,
        "event_cpu_us": event_cpu * 1e6,
    }


def crowd(contender: Contender, url: str, *, streams: int) -> dict[str, float]:
    """Measure ``streams`` streams at once on one client for coroutines, from the first request to the last event.

    Raises:
        ValueError: an answer was not the fixed one.
    """
    import asyncio

    async def everyone() -> float:
        client = contender.make_async(f"{url}/v1")
        fields = traffic.request_fields("stream", "at_once")

        async def one() -> list[str | None]:
            return [text async for text in contender.astream(client, fields)]

        await one()
        begun = time.perf_counter()
        read = await asyncio.gather(*(one() for _ in range(streams)))
        spent = time.perf_counter() - begun
        _check(read, traffic.STREAM_EVENTS - 3)
        await (client.aclose() if hasattr(client, "aclose") else client.close())
        return spent

    return {"crowd_s": asyncio.run(everyone())}


def _resident_mb() -> float:
    """Return the memory of this process in MB; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


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
            raise ValueError(f"The client read {found} pieces of text where {pieces} were sent.")


def main() -> None:
    """Run as a process of its own: ``CLIENT URL CALLS STREAMS CROWD``; the figures go to standard output as JSON."""
    sys.meta_path.insert(0, _Hider)
    from benchmarks.contenders import CONTENDERS

    name, url, calls, streams, crowded = sys.argv[1:]
    contender = CONTENDERS[name]
    if int(crowded):
        figures = crowd(contender, url, streams=int(crowded))
    else:
        figures = sequential(contender, url, calls=int(calls), streams=int(streams))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
