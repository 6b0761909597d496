"""The simple parameters of a body: what each may be, as a table. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from flatfee.server.providers.simulation.refusal import RefusedError, unknown, wrong_type

_Rule: TypeAlias = Callable[[str, Any], None]

REASONING: Final[Mapping[str, int]] = {
    "none": 0,
    "minimal": 0,
    "low": 16,
    "medium": 32,
    "high": 64,
    "xhigh": 128,
    "max": 128,
}
"""Tokens that the model pretends to think for a ``reasoning_effort``."""

_MOST_CHOICES: Final = 128
_MOST_STOPS: Final = 4
_MOST_TOKENS: Final = 1 << 31


def check_parameters(fields: Mapping[str, Any]) -> None:
    """Refuse parameters of the wrong type or out of range. Unknown ones, and ``null``, are no parameters.

    Raises:
        RefusedError: it names the parameter and what it may be.
    """
    for name, value in fields.items():
        rule = _RULES.get(name)
        if rule is not None and value is not None:
            rule(name, value)
    if fields.get("top_logprobs") is not None and not fields.get("logprobs"):
        raise RefusedError("The 'top_logprobs' parameter is only allowed with 'logprobs': true.", "top_logprobs")


def _whole(least: int, most: int) -> _Rule:
    def check(name: str, value: Any) -> None:
        if not isinstance(value, int) or isinstance(value, bool):
            raise wrong_type(name, "an integer", value)
        _check_range(name, value, least, most, "integer")

    return check


def _number(least: float, most: float) -> _Rule:
    def check(name: str, value: Any) -> None:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise wrong_type(name, "a decimal", value)
        _check_range(name, value, least, most, "decimal")

    return check


def _check_range(name: str, value: float, least: float, most: float, kind: str) -> None:
    for broken, edge, sign, limit in (
        (value < least, "below minimum", ">=", least),
        (value > most, "above maximum", "<=", most),
    ):
        if broken:
            raise RefusedError(
                f"Invalid '{name}': {kind} {edge} value. "
                f"Expected a value {sign} {limit}, but got {str(value)[:40]} instead.",
                name,
                f"{kind}_{edge[:9].replace(' ', '_')}_value",
            )


def _of(kind: type, words: str) -> _Rule:
    def check(name: str, value: Any) -> None:
        if not isinstance(value, kind):
            raise wrong_type(name, words, value)

    return check


def _stop(name: str, value: Any) -> None:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise wrong_type(name, "a string or an array of strings", value)
    if len(value) > _MOST_STOPS:
        raise RefusedError(
            f"Invalid '{name}': array too long. Expected at most {_MOST_STOPS} texts, but got {len(value)} instead.",
            name,
            "array_above_max_length",
        )
    if "" in value:
        raise RefusedError(f"Invalid '{name}': an empty text stops nothing. Leave it out.", name, "invalid_value")


def _effort(name: str, value: Any) -> None:
    if not isinstance(value, str) or value not in REASONING:
        raise unknown(name, value, ", ".join(map(repr, REASONING)))


def _modalities(name: str, value: Any) -> None:
    if value != ["text"]:
        raise RefusedError(
            f"This model answers in text only. Send '{name}': ['text'], or leave it out.", name, "invalid_value"
        )


_TOKENS: Final = _whole(1, _MOST_TOKENS)
_BOOLEAN: Final = _of(bool, "a boolean")
_OBJECT: Final = _of(dict, "an object")
_TEXT: Final = _of(str, "a string")

_RULES: Final[Mapping[str, _Rule]] = {
    "model": _TEXT,
    "n": _whole(1, _MOST_CHOICES),
    "max_tokens": _TOKENS,
    "max_completion_tokens": _TOKENS,
    "seed": _whole(-(1 << 63), (1 << 63) - 1),
    "temperature": _number(0, 2),
    "top_p": _number(0, 1),
    "presence_penalty": _number(-2, 2),
    "frequency_penalty": _number(-2, 2),
    "logprobs": _BOOLEAN,
    "top_logprobs": _whole(0, 20),
    "stream": _BOOLEAN,
    "stream_options": _OBJECT,
    "parallel_tool_calls": _BOOLEAN,
    "store": _BOOLEAN,
    "metadata": _OBJECT,
    "logit_bias": _OBJECT,
    "prediction": _OBJECT,
    "response_format": _OBJECT,
    "user": _TEXT,
    "tools": _of(list, "an array of objects"),
    "functions": _of(list, "an array of objects"),
    "reasoning_effort": _effort,
    "modalities": _modalities,
    "stop": _stop,
}
