"""``SIGHUP`` while ``flatfee serve`` loads, which takes a second: it would end the process, and is to reload a file."""

from __future__ import annotations

import signal


def hold_back() -> None:
    """Let it wait until the gateway can obey it, or ``let_go``."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})


def let_go() -> None:
    """Have it end the process, as usual: there is no file to read again."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
