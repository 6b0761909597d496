"""Errors, Anthropic's as OpenAI's: bodies, events, and what cannot be said in the Messages API at all. Pure.

Shapes and types: https://platform.claude.com/docs/en/api/errors. Statuses are not changed; what one means for
the route is told elsewhere (``stages/failures``).
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from flatfee.server.answers.lenient import UNREADABLE

_CODES: Final = {
    "authentication_error": "invalid_api_key",
    "billing_error": "insufficient_quota",
    "not_found_error": "model_not_found",
    "permission_error": "permission_denied",
    "rate_limit_error": "rate_limit_exceeded",
    "request_too_large": "request_too_large",
}
"""Anthropic's types → what OpenAI says in ``code``; any other has none."""

_SPENT: Final = ("Your credit balance is too low", "You have reached your specified")
"""How an ``invalid_request_error`` begins that is no fault of the request: the account has no money left, or has
spent what its owner allowed (https://platform.claude.com/docs/en/api/rate-limits#setting-your-own-spend-limit)."""

_SPEND_LIMIT: Final = "enforced_spend_limit_reached"
"""What ``details.error_code`` of a 429 says that no waiting cures."""

_MODEL_CANNOT: Final = re.compile(
    r"\b(?:not supported|deprecated) (?:for|on|by|with) this model\b"
    r"|\b[Tt]his model does not support\b"
    r"|, which is the maximum allowed number of output tokens\b"
)
"""What is in the message of an ``invalid_request_error`` about something that other models take, such as a tool that
must be called (https://platform.claude.com/docs/en/models/opus-5-5/migration-guide)."""

_OF_THOUGHTS: Final = ("`signature`", "`thinking` block", "`redacted_thinking` block")
"""What is in the message of an ``invalid_request_error`` about thinking blocks, and in no other's: "Invalid
`signature` in `thinking` block", "`thinking` or `redacted_thinking` blocks … cannot be modified"."""


class Untranslatable(Exception):
    """A request says something that the Messages API cannot; ``param`` names the field."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param

    def body(self) -> bytes:
        """Return it as the body of a 400 of OpenAI's."""
        return as_openai(str(self), "invalid_request_error", code="unsupported_value", param=self.param)


class _Details(msgspec.Struct):
    error_code: str | None = None


class Trouble(msgspec.Struct):
    """The ``error`` of a body or an event."""

    type: str = "api_error"
    message: str = ""
    details: _Details | None = None

    def body(self) -> bytes:
        """Return it as the body of an error of OpenAI's, which is an event's data as well."""
        return as_openai(self.message, self.type, code=self._code())

    def _code(self) -> str | None:
        spent = self.type == "invalid_request_error" and self.message.startswith(_SPENT)
        if spent or (self.details is not None and self.details.error_code == _SPEND_LIMIT):
            return "insufficient_quota"
        if self.type == "invalid_request_error" and _MODEL_CANNOT.search(self.message):
            return "unsupported_value"
        return _CODES.get(self.type)

    @property
    def blames_thinking(self) -> bool:
        """Whether thinking blocks that the request gave back are refused: they are not this model's, or changed."""
        return self.type == "invalid_request_error" and any(words in self.message for words in _OF_THOUGHTS)


class _Body(msgspec.Struct):
    error: Trouble


_body: Final = msgspec.json.Decoder(_Body)


def read_trouble(body: bytes) -> Trouble | None:
    """Read an error's body; ``None`` if it is not Anthropic's."""
    try:
        return _body.decode(body).error
    except UNREADABLE:
        return None


def as_openai(message: str, kind: str, *, code: str | None, param: str | None = None) -> bytes:
    """Return an error of OpenAI's (https://platform.openai.com/docs/guides/error-codes)."""
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": param, "code": code}})
