"""One exception that is two: ours by what went wrong, openai-python's by what its callers catch.

A pair of classes makes a third with both as its bases, once. The error keeps everything ours has
(``receipt``, ``attempts``, ``retryable``, ...) and gains ``request``; ``response`` is the HTTP
library's. It can be pickled without these two: they hold the key and the prompt.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import cache
from types import MappingProxyType
from typing import Any, Final

import openai

from flatfee import errors
from flatfee.errors import APIError, FlatfeeError

BY_STATUS: Final[Mapping[int, type[openai.APIStatusError]]] = MappingProxyType(
    {
        400: openai.BadRequestError,
        401: openai.AuthenticationError,
        403: openai.PermissionDeniedError,
        404: openai.NotFoundError,
        409: openai.ConflictError,
        422: openai.UnprocessableEntityError,
        429: openai.RateLimitError,
    }
)
"""The status of an error → openai-python's class. From 500 on ``InternalServerError``, else ``APIStatusError``."""

BY_KIND: Final[tuple[tuple[type[APIError], type[openai.APIError]], ...]] = (
    (errors.APITimeoutError, openai.APITimeoutError),
    (errors.APIConnectionError, openai.APIConnectionError),
    (errors.APIResponseValidationError, openai.APIResponseValidationError),
    (APIError, openai.APIError),
)
"""Our class of an error without a status → openai-python's; the first that fits."""


class Both:
    """What every error of two families has."""

    request: Any = None
    """The HTTP library's request; not part of a pickle."""

    def __reduce__(self) -> tuple[Any, ...]:
        _, ours, theirs = type(self).__bases__
        state = {name: value for name, value in vars(self).items() if name not in {"request", "response"}}
        return _revived, (ours, theirs, {**state, "args": self.args})  # type: ignore[attr-defined]  # it is an exception


def both(error: APIError, *, request: Any = None, response: Any = None) -> Any:
    """Return ``error`` as an instance of its own class and of openai-python's."""
    state = {**vars(error), "args": error.args, "request": request}
    if response is not None:
        state["response"] = response
    return _revived(type(error), _theirs(error), state)


def _theirs(error: APIError) -> type[openai.APIError]:
    if isinstance(error, errors.APIStatusError):
        other = openai.InternalServerError if error.status_code >= 500 else openai.APIStatusError
        return BY_STATUS.get(error.status_code, other)
    return next(theirs for ours, theirs in BY_KIND if isinstance(error, ours))


@cache
def _class_of(ours: Any, theirs: Any) -> Any:
    """Return the class of both, which tracebacks show by our name for it."""
    shown = {"__doc__": ours.__doc__, "__module__": ours.__module__}
    return type(ours.__name__, (Both, ours, theirs), shown)


def _revived(ours: Any, theirs: Any, state: dict[str, Any]) -> Any:
    """Make an error of both classes from its state. Neither ``__init__`` runs: each would call the other's."""
    cls = _class_of(ours, theirs)
    error = cls.__new__(cls)
    error.args = state.pop("args")
    error.__dict__.update(state)
    return error


def renamed(error: Exception) -> Any:
    """Return an error of openai-python's, or of its HTTP library, as one of both families; ``None`` for any other.

    Errors with a status are not meant: those are made from what the gateway answered.
    """
    told = getattr(error, "message", "")
    cause = type(error.__cause__ or error).__name__
    ours: APIError
    if isinstance(error, openai.APITimeoutError) or _is_named(error, "TimeoutException"):
        ours = errors.APITimeoutError(f"The gateway did not answer in time ({cause}).")
    elif isinstance(error, openai.APIConnectionError) or _is_named(error, "RequestError"):
        ours = errors.APIConnectionError(f"The connection to the gateway failed ({cause}).")
    elif isinstance(error, openai.APIResponseValidationError):
        ours = errors.APIResponseValidationError(told)
    elif isinstance(error, openai.APIError):
        ours = APIError(told, body=error.body if isinstance(error.body, dict) else None)
    else:
        return None
    if not isinstance(error, openai.APIError):
        return both(ours)  # asked for a request it was not given, the HTTP library's raises
    return both(ours, request=error.request, response=getattr(error, "response", None))


def _is_named(error: Exception, name: str) -> bool:
    """Tell whether a class of this name is among the error's: that of ``httpx`` or of ``httpx2``."""
    return any(cls.__name__ == name for cls in type(error).__mro__)


@contextmanager
def named() -> Generator[None]:
    """Let no error of openai-python's out that is not ours as well."""
    try:
        yield
    except openai.APIError as error:
        if isinstance(error, FlatfeeError):
            raise
        raise renamed(error) from error.__cause__ or error
