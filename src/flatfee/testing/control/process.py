"""A scripted gateway as a process: what ``flatfee serve --test`` runs. It says where it is, and ends when told to."""

from __future__ import annotations

import ipaddress
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any, Final

from flatfee.testing.control.endpoints import describe
from flatfee.testing.control.family import Family

_OF_ONE: Final = frozenset({"host", "port", "record"})
"""Options that cannot be shared with other gateways of the process."""

_LOOKS_EVERY: Final = 0.5
"""Seconds after which a signal is noticed at the latest."""

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def serve_until_told(options: dict[str, Any], tell: Callable[[str], None], *, end_with_stdin: bool = False) -> None:
    """Run a gateway with its control API until a signal, ``POST /_test/stop``, or the end of standard input.

    ``tell`` gets one line of JSON once requests are served: ``base_url``, ``api_key``, ``control_url``, ``pid``.

    Raises:
        ValueError: the host is no loopback address, an option is wrong, or there is no standard input to end with.
        TapeError: at the end, what was recorded could not be written.
        OSError: the address cannot be listened on.
    """
    check_loopback(options.get("host", "127.0.0.1"))
    if end_with_stdin and sys.stdin is None:
        raise ValueError("--end-with-stdin: there is no standard input; give a pipe that ends with your tests.")
    end = _End()
    shared = {name: value for name, value in options.items() if name not in _OF_ONE}
    with Family(end.tell, **shared) as family, _ended_by_signals(end.tell):
        gateway = family.start(options)
        tell(json.dumps({"flatfee": "ready", **describe(gateway), "pid": os.getpid()}))
        if end_with_stdin:
            threading.Thread(target=_end_with_stdin, args=(end.tell,), daemon=True).start()
        end.wait()
        gateway.taping.check()


class _End:
    """What the process waits for. ``tell`` may be called by a signal's handler, even within ``wait``."""

    def __init__(self) -> None:
        self._told: SimpleQueue[None] = SimpleQueue()  # unlike an event, it has no lock that a handler would wait for

    def tell(self) -> None:
        """End the wait."""
        self._told.put(None)

    def wait(self) -> None:
        """Wait until it is told."""
        while True:
            # A signal that the system gives to another thread interrupts nothing; its handler runs after the wait.
            with suppress(Empty):
                return self._told.get(timeout=_LOOKS_EVERY)


def check_loopback(host: str) -> None:
    """Refuse an address that others can reach.

    Raises:
        ValueError: naming the host.
    """
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        message = f"--test serves on this machine only, not on {host!r}: whoever reaches it may do anything with it."
        raise ValueError(message)


@contextmanager
def _ended_by_signals(end: Callable[[], None]) -> Generator[None, None, None]:
    def ended(number: int, frame: FrameType | None) -> None:
        del number, frame
        end()

    before = {number: signal.signal(number, ended) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_with_stdin(end: Callable[[], None]) -> None:
    while sys.stdin.buffer.read(1 << 16):
        continue
    end()
