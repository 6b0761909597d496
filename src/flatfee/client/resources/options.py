"""Keyword arguments of a call, sorted into headers, query, body and timeout. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, TypedDict

from flatfee.client.config import header_value
from flatfee.client.exchange import extra_headers
from flatfee.errors import ConfigurationError
from flatfee.types.params import CallOptions
from flatfee.types.sentinel import NOT_GIVEN, NotGiven, absent
from flatfee.types.timeout import Timeout
from flatfee.wire import MAX_IDEMPOTENCY_KEY, WORKFLOW_ID, Header, OnExhausted, Task

_CALL_OPTIONS: Final = frozenset(CallOptions.__annotations__)


class CallParts(TypedDict):
    """What the options of every call become in an ``exchange.Call``."""

    headers: dict[str, str | NotGiven]
    query: dict[str, object]
    timeout: Timeout | NotGiven


def call_parts(
    options: CallOptions | Mapping[str, Any],
    *,
    headers: Mapping[str, str] | None = None,
    query: Mapping[str, object] | None = None,
) -> CallParts:
    """Sort the options that every call has; the caller's extras go over ``headers`` and ``query``."""
    timeout = options.get("timeout", NOT_GIVEN)
    return {
        "headers": {**(headers or {}), **extra_headers(options.get("extra_headers"))},
        "query": {**(query or {}), **(options.get("extra_query") or {})},
        "timeout": NOT_GIVEN if absent(timeout) else Timeout.of(timeout),
    }


def plain_parts(options: CallOptions, *, query: Mapping[str, object] | None = None) -> CallParts:
    """Sort the options of a call without a body, where an unknown one has nowhere to go.

    Raises:
        TypeError: names what is unknown.
    """
    for name in options:
        if name not in _CALL_OPTIONS:
            raise TypeError(f"This call has no argument {name!r}; it takes {', '.join(sorted(_CALL_OPTIONS))}.")
    return call_parts(options, query=query)


def workflow_id(value: object) -> str:
    """Return a workflow id that the gateway takes.

    Raises:
        ConfigurationError: it has other characters, or is too long or empty.
    """
    if not isinstance(value, str) or not WORKFLOW_ID.fullmatch(value):
        raise ConfigurationError(f"workflow is {value!r}; use 1 to 128 of A-Z a-z 0-9 . _ : and -, not . or ..")
    return value


def _one_of(kind: type[Task | OnExhausted], name: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if not isinstance(value, str) or value not in set(kind):
            raise ConfigurationError(f"{name} is {value!r}; use one of {', '.join(kind)}.")
        return str(value)

    return check


def deadline(options: Mapping[str, Any]) -> float | None:
    """Return the seconds that all tries of a call may take together.

    Raises:
        ConfigurationError: it is not a number of seconds.
    """
    value = options.get("deadline")
    if value is None or absent(value):
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise ConfigurationError(f"deadline is {value!r}; use seconds above 0.")
    return float(value)


def _idempotency_key(value: object) -> str:
    key = header_value("Idempotency-Key", value)
    if not 0 < len(key) <= MAX_IDEMPOTENCY_KEY:
        raise ConfigurationError(
            f"idempotency_key has {len(key)} characters; use 1 to {MAX_IDEMPOTENCY_KEY} printable ASCII characters."
        )
    return key


GATEWAY_OPTIONS: Final[Mapping[str, tuple[str, Callable[[object], str]]]] = {
    "workflow": (Header.WORKFLOW, workflow_id),
    "task": (Header.TASK, _one_of(Task, "task")),
    "on_exhausted": (Header.ON_EXHAUSTED, _one_of(OnExhausted, "on_exhausted")),
    "idempotency_key": (Header.IDEMPOTENCY_KEY, _idempotency_key),
}
"""Argument → the header it travels in, and its check. ``None`` is the same as absent here."""


def gateway_headers(options: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers of flatfee's own arguments.

    Raises:
        ConfigurationError: a value that the gateway would refuse.
    """
    given = {name: options[name] for name in GATEWAY_OPTIONS if name in options}
    return {
        GATEWAY_OPTIONS[name][0]: GATEWAY_OPTIONS[name][1](value)
        for name, value in given.items()
        if value is not None and not absent(value)
    }


_ELSEWHERE: Final = frozenset({*GATEWAY_OPTIONS, *_CALL_OPTIONS, "deadline", "extra_body"})


def body_fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what travels in the body, unknown arguments included; ``extra_body`` goes over the rest."""
    fields = {name: value for name, value in options.items() if name not in _ELSEWHERE}
    return {**fields, **(options.get("extra_body") or {})}
