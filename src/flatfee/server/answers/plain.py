"""A plain answer, read and completed; and a refusal. Sans I/O: bytes in, bytes out.

A completion gets the receipt as its last member. Nothing else is rewritten, but for a receipt that the
provider had put in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from flatfee.server.answers.lenient import UNREADABLE, decoded
from flatfee.server.answers.members import (
    BROKEN_OFF,
    UnusableAnswer,
    is_error,
    splice,
    told_usage,
    without_receipt,
)
from flatfee.server.statement import UsedTokens


class _Completion(msgspec.Struct):
    choices: Raw | UnsetType = UNSET
    usage: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET
    flatfee: Raw | UnsetType = UNSET


_completion = msgspec.json.Decoder(_Completion)
# Quotes within a text are escaped, so no text reads like this.
_BROKEN_OFF: Final = re.compile(rb'"finish_reason"\s*:\s*"(?:%b)"' % "|".join(sorted(BROKEN_OFF)).encode())


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole plain answer, ready for its receipt."""

    usage: UsedTokens | None
    size: int
    _data: bytes

    def with_receipt(self, receipt: bytes) -> bytes:
        """Return the answer with the receipt (JSON) as its last member."""
        return splice(self._data, receipt)


def read_completion(data: bytes) -> Completion:
    """Read a plain completion.

    Raises:
        UnusableAnswer: it is not a completion: not JSON, an error with status 200, no choices.
    """
    try:
        found = decoded(_completion, data)
        plain = without_receipt(data) if found.flatfee is not UNSET else data
    except UNREADABLE as error:
        raise UnusableAnswer("is not a completion") from error
    if is_error(found.error):
        raise UnusableAnswer("is an error with status 200")
    choices = b"" if found.choices is UNSET else bytes(found.choices)
    if choices[:1] != b"[" or not choices[1:-1].strip():
        raise UnusableAnswer("has no choices")
    if _BROKEN_OFF.search(choices):
        raise UnusableAnswer("was broken off by its provider")
    return Completion(told_usage(found.usage), len(choices) - 2, plain)


def read_refusal(data: bytes) -> dict[str, object]:
    """Return the ``error`` object of a provider's refusal, with every field that OpenAI's has, as text.

    Some providers send a number as ``code``; older vLLM and Mistral an error with nothing around it; xAI a text, with
    its ``code`` beside it; FastAPI's servers a list under ``detail``; Gemini a list of one. Fields that OpenAI does
    not know stay as they came.
    """
    try:
        error = _told(msgspec.json.decode(data))
    except UNREADABLE:
        error = None
    inner = {"message": "The provider refused the request and gave no reason."} if error is None else error
    known = {name: str(inner[name]) for name in ("message", "type", "param", "code") if inner.get(name) is not None}
    return {**inner, "message": "", "type": "invalid_request_error", "param": None, "code": None, **known}


def _told(body: object) -> dict[str, object] | None:
    """Return what a refusal tells, wherever it has it."""
    if isinstance(body, list) and body:
        return _told(body[0])
    if not isinstance(body, dict):
        return None
    error = body.get("error")
    if isinstance(error, dict):
        return error
    beside = {name: value for name, value in body.items() if name not in {"error", "message", "detail"}}
    words = _words(error) or _words(body.get("message")) or _words(body.get("detail"))
    return {**beside, "message": words} if words else None


def _words(told: object) -> str | None:
    """Return a message as text: some are a list of FastAPI's findings, or hold one."""
    if isinstance(told, str):
        return told
    if isinstance(told, list):
        return "; ".join(filter(None, map(_words, told))) or None
    if not isinstance(told, dict):
        return None
    place, finding = told.get("loc"), _words(told.get("msg"))
    if finding and isinstance(place, list):
        return f"{'.'.join(map(str, place))}: {finding}"
    return finding or _words(told.get("detail")) or _words(told.get("message"))
