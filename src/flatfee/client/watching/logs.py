"""The client's log: events with a few words of the wire in them, and nothing that could be secret.

What is never logged: keys, header values, queries, bodies, and the text of errors, which may quote any of them.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from flatfee.client.errand import Errand
from flatfee.client.stream import StreamState
from flatfee.errors import APIError, APIStatusError, ConfigurationError
from flatfee.wire import Header

LOG_ENV: Final = "FLATFEE_LOG"
LEVELS: Final = ("debug", "info", "warning", "error", "critical")

log: Final = logging.getLogger("flatfee.client")

_NUMBERS: Final = itertools.count(1)
"""One for the process: the lines of several clients end up in one log."""

_WORD: Final = re.compile(r"[a-z0-9_]{1,40}")
_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,48}")  # a key is longer


def set_up(env: Mapping[str, str], logger: logging.Logger | None = None) -> None:
    """Do what ``FLATFEE_LOG`` asks for: set the level of the logger ``flatfee``, and show it if nobody else would.

    The root logger is left alone; what the application has configured stays.

    Raises:
        ConfigurationError: it names no level.
    """
    asked = env.get(LOG_ENV, "").strip().lower()
    if not asked:
        return
    if asked not in LEVELS:
        raise ConfigurationError(f"{LOG_ENV} is {asked!r}; use one of {', '.join(LEVELS)}.")
    logger = logger or logging.getLogger("flatfee")
    logger.setLevel(asked.upper())
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
        handler.addFilter(lambda _: not logging.getLogger().handlers)  # the application may configure its own later
        logger.addHandler(handler)


@dataclass(slots=True)
class _Course:
    """What is remembered of a call for its next line."""

    began: float
    number: int
    tries: int = 1


class LogListener:
    """Writes a line for each step of a call, where the level of the logger lets it through.

    ``call`` is the call's number, for the lines of several calls at once to be told apart.
    """

    def began(self, errand: Errand[Any]) -> None:
        """Log ``client.request``."""
        if log.isEnabledFor(logging.INFO):
            errand.notes[self] = course = _Course(errand.clock(), next(_NUMBERS))
            log.debug("client.request call=%d method=%s path=%s", course.number, *_place(errand))

    def tried(self, errand: Errand[Any], error: APIError) -> None:
        """Log ``client.try_failed``."""
        course = errand.notes.get(self)
        if course is not None:
            log.info("client.try_failed call=%d try=%d %s", course.number, course.tries, _failure(error))
            course.tries += 1

    def answered(self, errand: Errand[Any], answer: object, headers: Mapping[str, str]) -> None:  # noqa: ARG002 - as listeners have it
        """Log ``client.answer``."""
        if self in errand.notes:
            self._log("client.answer", errand, _told(headers))

    def handed(self, errand: Errand[Any], headers: Mapping[str, str]) -> None:
        """Log ``client.answer``, before its body was read."""
        if self in errand.notes:
            self._log("client.answer", errand, _told(headers))

    def failed(self, errand: Errand[Any], error: BaseException) -> None:
        """Log ``client.failed``."""
        if self in errand.notes:
            self._log("client.failed", errand, _failure(error))

    def opened(self, errand: Errand[Any], state: StreamState) -> None:
        """Log ``client.stream``."""
        if self in errand.notes:
            self._log("client.stream", errand, _told(state.headers))

    def ended(self, errand: Errand[Any], state: StreamState) -> None:
        """Log ``client.stream_end``."""
        if self in errand.notes:
            told = _failure(state.failure) if state.ending == "failed" and state.failure else _told(state.headers)
            self._log("client.stream_end", errand, f"end={state.ending} {told}")

    def _log(self, event: str, errand: Errand[Any], told: str) -> None:
        course: _Course = errand.notes[self]
        milliseconds = round((errand.clock() - course.began) * 1000)
        log.info("%s call=%d method=%s path=%s %s ms=%d", event, course.number, *_place(errand), told, milliseconds)


def _place(errand: Errand[Any]) -> tuple[str, str]:
    return errand.call.method, errand.call.path


def _told(headers: Mapping[str, str]) -> str:
    known = {
        "lane": _word(headers.get(Header.LANE)),
        "reason": _word(headers.get(Header.REASON)),
        "request_id": _id(headers.get(Header.REQUEST_ID) or headers.get(Header.X_REQUEST_ID)),
    }
    return " ".join(f"{name}={value}" for name, value in known.items() if value)


def _failure(error: BaseException) -> str:
    told = [f"error={type(error).__name__}"]
    if isinstance(error, APIStatusError):
        told.append(f"status={error.status_code}")
    if isinstance(error, APIError):
        told += [f"code={code}" for code in (_word(error.code),) if code]
        told += [f"request_id={name}" for name in (_id(error.request_id),) if name]
    return " ".join(told)


def _word(text: str | None) -> str | None:
    """Return a word of the contract; what is none, in a place where one belongs, is not repeated."""
    return text if text is None or _WORD.fullmatch(text) else "?"


def _id(text: str | None) -> str | None:
    return text if text is None or _ID.fullmatch(text) else "?"
