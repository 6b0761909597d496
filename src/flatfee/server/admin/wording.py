"""How a wrong body or query is told: the member, the value and the cure. Never a long value."""

from __future__ import annotations

import json
from typing import Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from flatfee.server.faults import Fault
from flatfee.wire import ErrorCode

_MAX_SHOWN: Final = 30
"""Shorter than any key: one that was sent in the wrong place is not repeated."""


def refusal(error: ValidationError, model: type[BaseModel], noun: str) -> Fault:
    """Return the error for the first thing that is wrong; ``noun`` says what its members are called."""
    details = error.errors(include_url=False)[0]
    where = _where(details["loc"])
    return Fault(ErrorCode.INVALID_REQUEST, f"{_told(details, where, model, noun)}.", param=where or None)


def _where(location: tuple[str | int, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part[:_MAX_SHOWN]
    return text


def _told(details: ErrorDetails, where: str, model: type[BaseModel], noun: str) -> str:
    context = details.get("ctx", {})
    match details["type"]:
        case "extra_forbidden":
            known = ", ".join(model.model_fields) or "none"
            return f"There is no {noun} {where!r} here; there are: {known}"
        case "missing":
            return f"The {noun} {where!r} is missing; send it"
        case "json_invalid":
            return "The body is not JSON"
        case "model_type":
            return "The body must be a JSON object"
        case "string_pattern_mismatch":
            return (
                f"{where} is {_shown(details['input'])}; use letters, digits and . _ -, at most 64, "
                "a letter or digit first"
            )
        case "enum" | "literal_error":
            return f"{where} is {_shown(details['input'])}; use {context['expected']}"
        case "value_error":
            return f"{where} {context['error']}".strip()[:1].upper() + f"{where} {context['error']}".strip()[1:]
        case _:
            return f"{where} is {_shown(details['input'])}; {details['msg'][:1].lower()}{details['msg'][1:]}"


def _shown(value: object) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."
