"""A plain answer, read and completed; and a refusal. Sans I/O: bytes in, bytes out.

A completion gets the receipt as its last member. Nothing else is rewritten, but for a receipt that the
provider had put in.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from msgspec import UNSET, Raw, UnsetType

from flatfee.receipt import TokenUsage
from flatfee.server.answers.lenient import UNREADABLE, decoded
from flatfee.server.answers.members import UnusableAnswer, is_error, splice, told_usage, without_receipt


class _Completion(msgspec.Struct):
    choices: Raw | UnsetType = UNSET
    usage: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET
    flatfee: Raw | UnsetType = UNSET


_completion = msgspec.json.Decoder(_Completion)


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole plain answer, ready for its receipt."""

    usage: TokenUsage | None
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
    return Completion(told_usage(found.usage), len(choices) - 2, plain)


def read_refusal(data: bytes) -> dict[str, object]:
    """Return the ``error`` object of a provider's refusal, with every field that OpenAI's has, as text.

    Some providers send a number as ``code``, older vLLM an error with nothing around it, and Gemini a list of one;
    fields that OpenAI does not know stay as they came.
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
    error = body.get("error", body if isinstance(body.get("message"), str) else None)
    if isinstance(error, str):
        return {"message": error}
    return error if isinstance(error, dict) else None
