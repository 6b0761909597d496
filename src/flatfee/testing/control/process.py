"""A scripted gateway as a process: what ``flatfee serve --test`` runs. It says where it is, and ends when told to."""

from __future__ import annotations

import ipaddress
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

from flatfee.testing.control.endpoints import describe
from flatfee.testing.control.family import Family

_OF_ONE: Final = frozenset({"host", "port", "record"})
"""Options that cannot be shared with other gateways of the process."""

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def serve_until_told(options: dict[str, Any], tell: Callable[[str], None], *, end_with_stdin: bool = False) -> None:
    """Run a gateway with its control API until a signal, ``POST /_test/stop``, or the end of standard input.

    ``tell`` gets one line of JSON once requests are served: ``base_url``, ``api_key``, ``control_url``, ``pid``.

    Raises:
        ValueError: the host is no loopback address, or an option is wrong.
        TapeError: at the end, what was recorded could not be written.
        OSError: the address cannot be listened on.
    """
    check_loopback(options.get("host", "127.0.0.1"))
    told_to_end = threading.Event()
    shared = {name: value for name, value in options.items() if name not in _OF_ONE}
    with Family(told_to_end.set, **shared) as family, _ended_by_signals(told_to_end.set):
        gateway = family.start(options)
        tell(json.dumps({"flatfee": "ready", **describe(gateway), "pid": os.getpid()}))
        if end_with_stdin:
            threading.Thread(target=_end_with_stdin, args=(told_to_end,), daemon=True).start()
        told_to_end.wait()
        gateway.taping.check()


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


def _end_with_stdin(told_to_end: threading.Event) -> None:
    while sys.stdin.buffer.read(1 << 16):
        continue
    told_to_end.set()
