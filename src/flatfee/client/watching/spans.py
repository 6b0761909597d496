"""What a span tells of a completion: names and values by OpenTelemetry's conventions for generative AI. Pure.

Parameters, figures and words of the wire only. Prompts, completions, stop sequences and the text of errors stay out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flatfee.client.stream import StreamState
from flatfee.errors import APIError
from flatfee.receipt import Receipt
from flatfee.types.base import OrAbsent
from flatfee.types.chat import ChatCompletion
from flatfee.wire import ERRORS

Attributes = dict[str, str | int | float | bool | list[str]]

_OTHER_NAMES: Final = {"n": "choice.count", "reasoning_effort": "reasoning.level"}


class _Asked(BaseModel):
    """The parameters of a completion that a span tells. The rest of the body is skipped where it stands."""

    model_config = ConfigDict(extra="ignore")

    model: OrAbsent[str] = None
    stream: OrAbsent[bool] = None
    n: OrAbsent[int] = None
    seed: OrAbsent[int] = None
    max_tokens: OrAbsent[int] = None
    max_completion_tokens: OrAbsent[int] = Field(default=None, exclude=True)
    temperature: OrAbsent[float] = None
    top_p: OrAbsent[float] = None
    frequency_penalty: OrAbsent[float] = None
    presence_penalty: OrAbsent[float] = None
    reasoning_effort: OrAbsent[str] = None


def asked(body: bytes | None) -> Attributes:
    """Return what a completion's request body asks for."""
    try:
        found = _Asked.model_validate_json(body or b"{}")
    except ValidationError:
        found = _Asked()
    if found.max_tokens is None:
        found.max_tokens = found.max_completion_tokens
    if found.n == 1:
        found.n = None
    told = found.model_dump(exclude_none=True)
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "flatfee",
        **{f"gen_ai.request.{_OTHER_NAMES.get(name, name)}": value for name, value in told.items()},
    }


def where(base_url: str) -> Attributes:
    """Return the gateway's address."""
    parts = urlsplit(base_url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return {"server.address": parts.hostname or "", "server.port": port}


def completion(answer: ChatCompletion) -> Attributes:
    """Return what a whole answer tells."""
    reasons = [choice.finish_reason or "" for choice in answer.choices]
    usage = answer.usage
    return _answer(answer.id, answer.model, reasons) | _given(
        {
            "gen_ai.usage.input_tokens": usage.prompt_tokens if usage else None,
            "gen_ai.usage.output_tokens": usage.completion_tokens if usage else None,
        }
    )


def stream(state: StreamState) -> Attributes:
    """Return what a stream tells at its end."""
    last = state.finish
    told = _answer(last.id, last.model, state.finish_reasons) if last else {}
    return told | {"flatfee.stream_end": state.ending}


def receipt(found: Receipt | None) -> Attributes:
    """Return what a receipt tells."""
    if found is None:
        return {}
    usage, use = found.usage, found.fair_use
    return _given(
        {
            "gen_ai.response.model": found.model_served,
            "gen_ai.usage.input_tokens": usage.prompt_tokens if usage else None,
            "gen_ai.usage.output_tokens": usage.completion_tokens if usage else None,
            "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens if usage else None,
            "flatfee.request_id": found.request_id,
            "flatfee.lane": found.lane,
            "flatfee.reason": found.reason,
            "flatfee.route": found.route,
            "flatfee.state": found.state,
            "flatfee.units": use.charged if use else None,
        }
    )


def failure(error: BaseException) -> Attributes:
    """Return the code of an error if it is the contract's, else its class."""
    code = error.code if isinstance(error, APIError) else None
    return {"error.type": code if code is not None and code in ERRORS else type(error).__name__}


def _answer(name: str, model: str, reasons: list[str]) -> Attributes:
    told: Attributes = {"gen_ai.response.finish_reasons": reasons}
    return told | _given({"gen_ai.response.id": name or None, "gen_ai.response.model": model or None})


def _given(values: Mapping[str, Any]) -> Attributes:
    return {
        name: str(value) if isinstance(value, str) else value for name, value in values.items() if value is not None
    }
