"""Functions of the caller's that the client calls while it works: checked once, and never the end of a call.

An answer has been paid for by the time they hear of it; so what they raise is logged, and the answer stays.
"""

from __future__ import annotations

import inspect
import logging
import traceback
from collections.abc import Callable, Coroutine
from pathlib import PurePath
from typing import Any, Final, TypeVar

from flatfee.errors import ConfigurationError

T = TypeVar("T")

log: Final = logging.getLogger("flatfee.client")


def plain_function(name: str, value: object) -> Callable[[Any], object]:
    """Return ``value`` if it can be called and need not be awaited.

    Raises:
        ConfigurationError: names the argument and the cure.
    """
    if not callable(value):
        raise ConfigurationError(f"{name} is of type {type(value).__name__}; use a function of one argument.")
    if inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(getattr(value, "__call__", None)):  # noqa: B004 - what is called, not whether it can be
        raise ConfigurationError(
            f"{name} is a coroutine function, and is called where nothing can be awaited; "
            "use a plain function, which may put what it hears into a queue."
        )
    return value


def tell(name: str, function: Callable[[T], object], told: T) -> None:
    """Call ``function``; what it raises is logged by its class and place, since its text may hold anything."""
    try:
        result = function(told)
    except Exception as error:  # noqa: BLE001 - the caller's own function, and the answer matters more
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{PurePath(frame.filename).name}:{frame.lineno}"
        log.error("client.callback_failed callback=%s error=%s at=%s", name, type(error).__name__, where)  # noqa: TRY400 - see above
        return
    if isinstance(result, Coroutine):
        result.close()  # it is not going to be awaited, and needs no warning beside this line
        log.error("client.callback_failed callback=%s error=it_must_be_awaited", name)
