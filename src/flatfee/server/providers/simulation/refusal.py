"""How a body is refused: OpenAI's 400, with the parameter, a code, and words that name the cure. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec


class RefusedError(ValueError):
    """The simulated model does not answer a body; a real provider would not either.

    ``message``, ``param`` and ``code`` are those of OpenAI's error object, ``status`` is the HTTP status.
    """

    status = 400

    def __init__(self, message: str, param: str | None = None, code: str = "invalid_request_error") -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code

    def body(self) -> bytes:
        """Return the answer's body."""
        error = {"message": self.message, "type": "invalid_request_error", "param": self.param, "code": self.code}
        return msgspec.json.encode({"error": error})


_KINDS = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a decimal",
}


def kind_of(value: Any) -> str:
    """Return what kind of JSON a value is, as OpenAI's messages call it."""
    return "null" if value is None else _KINDS.get(type(value), "something else")


def wrong_type(param: str, expected: str, value: Any) -> RefusedError:
    """Return the refusal of a value of the wrong type."""
    return RefusedError(
        f"Invalid type for '{param}': expected {expected}, but got {kind_of(value)} instead.", param, "invalid_type"
    )


def missing(param: str) -> RefusedError:
    """Return the refusal of a body that lacks something."""
    return RefusedError(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")


def unknown(param: str, value: Any, supported: str) -> RefusedError:
    """Return the refusal of a value that is none of those there are."""
    return RefusedError(
        f"Invalid value: {str(value)[:60]!r}. Supported values are: {supported}.", param, "invalid_value"
    )


def check_known(param: str, value: Any, known: Sequence[str], supported: str | None = None) -> None:
    """Refuse a value that is missing, or none of those there are; ``supported`` is how these are told."""
    if value is None:
        raise missing(param)
    if value not in known:
        raise unknown(param, value, supported or ", ".join(map(repr, known)))
