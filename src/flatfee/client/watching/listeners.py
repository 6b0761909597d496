"""Who listens to a client: the one place where they are put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from flatfee.client.watching import logs
from flatfee.client.watching.callbacks import plain_function
from flatfee.client.watching.fair_use import FairUseSight
from flatfee.client.watching.noting import ReceiptListener
from flatfee.client.watching.tracing import TraceListener
from flatfee.client.watching.watch import Watch
from flatfee.receipt import Receipt


def watch_for(env: Mapping[str, str], on_receipt: Callable[[Receipt], object] | None = None) -> Watch:
    """Return the watch of a new client.

    Raises:
        ConfigurationError: names the bad value and the cure.
    """
    if on_receipt is not None:
        plain_function("on_receipt", on_receipt)
    logs.set_up(env)
    fair_use = FairUseSight()
    # Spans come first, so that what is logged inside belongs to them.
    listeners = (TraceListener(), ReceiptListener(fair_use, on_receipt), logs.LogListener())
    return Watch(listeners, fair_use)
