"""How the gateway's log looks: events with their facts, one line each.

Code logs an event's name and its facts as ``extra``; here they become ``event key=value``. Values
are names, codes and numbers: no key, prompt or completion is ever given to a log call.
"""

from __future__ import annotations

import logging
from typing import Final

_OWN_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class EventFormatter(logging.Formatter):
    """``2026-11-23 09:00:00,000 INFO flatfee.server relay.left_route route=north outcome=timeout``."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        """Return the line, with what came as ``extra`` behind it."""
        facts = [f"{name}={_shown(value)}" for name, value in vars(record).items() if name not in _OWN_FIELDS]
        return " ".join([super().formatMessage(record), *facts])


def configure_logging(level: int = logging.INFO, *, worker: int | None = None) -> None:
    """Send the process's log to standard error in our form; in one of several, every line names the worker."""
    handler = logging.StreamHandler()
    handler.setFormatter(EventFormatter())
    if worker is not None:
        handler.addFilter(lambda record: bool(record.__dict__.setdefault("worker", worker) or True))
    logging.basicConfig(level=level, handlers=[handler])
    # What uvicorn says about its own start is named "error"; our events say the same in our words.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)


def _shown(value: object) -> str:
    """Return a value as one word, so that no value can forge a second line or fact."""
    text = str(value)
    return text if text and text.isprintable() and " " not in text and "=" not in text else repr(text)
