"""The child that measures the test double and what asks it, together in one process, as in a test."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from flatfee.testing import ScriptedGateway

_ASKED: Final[dict[str, Any]] = {"model": "premium", "messages": [{"role": "user", "content": "Hello"}]}
_WARMUP: Final = 20


@contextmanager
def _nothing(gateway: ScriptedGateway) -> Iterator[Callable[[], object]]:
    """Ask with the standard library alone: what remains is the double's own."""
    import http.client

    connection = http.client.HTTPConnection(gateway.host, gateway.port)
    headers = {"authorization": f"Bearer {gateway.api_key}", "content-type": "application/json"}
    body = json.dumps(_ASKED)

    def ask() -> object:
        connection.request("POST", "/v1/chat/completions", body, headers)
        return json.loads(connection.getresponse().read())["choices"]

    try:
        yield ask
    finally:
        connection.close()


@contextmanager
def _flatfee(gateway: ScriptedGateway) -> Iterator[Callable[[], object]]:
    import flatfee

    with flatfee.Client(api_key=gateway.api_key, base_url=gateway.base_url) as client:
        yield lambda: client.chat.completions.create(**_ASKED).choices


@contextmanager
def _memory(gateway: ScriptedGateway) -> Iterator[Callable[[], object]]:
    with gateway.client(memory=True) as client:
        yield lambda: client.chat.completions.create(**_ASKED).choices


@contextmanager
def _openai(gateway: ScriptedGateway) -> Iterator[Callable[[], object]]:
    import openai

    with openai.OpenAI(api_key=gateway.api_key, base_url=gateway.base_url) as client:
        yield lambda: client.chat.completions.create(**_ASKED).choices


ASKERS: Final = {
    "http.client": _nothing,
    "flatfee.Client": _flatfee,
    "flatfee.Client in memory": _memory,
    "openai.OpenAI": _openai,
}
"""Who asks the double, and shares its process."""


def figures(asker: str, calls: int) -> dict[str, float]:
    """Measure start-up, until the first answer is there; memory, then; and how fast answers follow."""
    begun = time.perf_counter()
    from flatfee.testing import running_gateway

    imported = time.perf_counter()
    with running_gateway() as gateway:
        running = time.perf_counter()
        gateway.script("It is sunny.", user="Hello")
        with ASKERS[asker](gateway) as ask:
            ask()
            answered = time.perf_counter()
            memory = _resident_mb()
            for _ in range(_WARMUP):
                ask()
            first = time.perf_counter()
            for _ in range(calls):
                ask()
            seconds = time.perf_counter() - first
    return {
        "start_ms": (answered - begun) * 1e3,
        "import_ms": (imported - begun) * 1e3,
        "gateway_ms": (running - imported) * 1e3,
        "resident_mb": memory,
        "per_second": calls / seconds,
    }


def _resident_mb() -> float:
    """Return the memory of this process that is in use; 0 where the system does not tell."""
    told = Path("/proc/self/statm")
    return int(told.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6 if told.exists() else 0.0


def main(arguments: Sequence[str]) -> None:
    """Measure, and print the figures as JSON. Arguments: who asks, and how often."""
    asker, calls = arguments
    print(json.dumps(figures(asker, int(calls))))


if __name__ == "__main__":
    main(sys.argv[1:])
