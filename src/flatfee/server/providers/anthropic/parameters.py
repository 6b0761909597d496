"""How the answer is asked for: its length, sampling, thinking, form. Pure.

https://platform.claude.com/docs/en/api/messages/create; what of it a model takes is in ``models``.
"""

from __future__ import annotations

from typing import Final

from flatfee.server.providers.anthropic.chat import Chat, Json
from flatfee.server.providers.anthropic.errors import Untranslatable
from flatfee.server.providers.anthropic.models import Generation

DEFAULT_MAX_TOKENS: Final = 32_000
"""The API wants ``max_tokens``, and OpenAI's has no such limit: the most that every Claude 4 can write
(https://platform.claude.com/docs/en/about-claude/models/overview). Only what is written is charged."""

_MIN_BUDGET: Final = 1024
_EFFORTS: Final = {
    "none": ("low", 0),
    "minimal": ("low", 1024),
    "low": ("low", 2048),
    "medium": ("medium", 8192),
    "high": ("high", 16_384),
    "xhigh": ("xhigh", 32_768),
    "max": ("max", 32_768),
}
"""``reasoning_effort`` → the effort, and for older models the budget of thinking, in tokens."""

_TIERS: Final = {"auto": "auto", "default": "standard_only", "standard_only": "standard_only"}


def max_tokens(chat: Chat) -> int:
    """Return the most tokens that the answer may have, thinking included."""
    return chat.max_completion_tokens or chat.max_tokens or DEFAULT_MAX_TOKENS


def thinking(chat: Chat, takes: Generation, *, may_think: bool) -> Json | None:
    """Return ``thinking``: the caller's own, else what its ``reasoning_effort`` comes to.

    Where a tool must be called there is none: the API refuses to think then. Older models get a budget, at most half
    of what the answer may have, and only where it ``may_think``.
    The text of thoughts is asked for, which newer models leave out by default.

    Raises:
        Untranslatable: the effort is none that is known.
    """
    if chat.thinking is not None:
        return chat.thinking
    if chat.reasoning_effort is None:
        return None
    _, budget = _effort(chat)
    if not budget or chat.tool_choice not in (None, "auto", "none"):
        return None
    if takes.adaptive:
        return {"type": "adaptive", "display": "summarized"}
    budget = min(budget, max_tokens(chat) // 2)
    if budget < _MIN_BUDGET or not may_think:
        return None
    return {"type": "enabled", "budget_tokens": budget}


def output_config(chat: Chat, takes: Generation) -> Json:
    """Return ``output_config``: effort and form of the answer.

    ``json_object`` has no equivalent: the prompt alone, which OpenAI wants to ask for JSON as well, tells the model.

    Raises:
        Untranslatable: the effort, or the form, is none that is known.
    """
    config: Json = {}
    if chat.reasoning_effort is not None and takes.adaptive:
        effort, _ = _effort(chat)
        config["effort"] = "high" if effort == "xhigh" and not takes.xhigh else effort
    form = chat.response_format
    if form is not None and form.type == "json_schema":
        if form.json_schema is None or form.json_schema.schema is None:
            raise Untranslatable("response_format has no schema; send json_schema.schema.", "response_format")
        config["format"] = {"type": "json_schema", "schema": form.json_schema.schema}
    return config


def _effort(chat: Chat) -> tuple[str, int]:
    try:
        return _EFFORTS[chat.reasoning_effort or ""]
    except KeyError as error:
        told = f"reasoning_effort is {(chat.reasoning_effort or '')[:40]!r}; send one of: {', '.join(_EFFORTS)}."
        raise Untranslatable(told, "reasoning_effort") from error


def sampling(chat: Chat, takes: Generation, *, thinks: bool) -> Json:
    """Return temperature and what belongs to it, where the model takes them: newer ones do not, nor any that thinks.

    OpenAI's temperatures reach to 2, these to 1; and some models take only one of temperature and ``top_p``.
    """
    if thinks or not takes.sampling:
        return {}
    told: Json = {}
    if chat.temperature is not None:
        told["temperature"] = min(max(chat.temperature, 0.0), 1.0)
    elif chat.top_p is not None:
        told["top_p"] = chat.top_p
    if chat.top_k is not None:
        told["top_k"] = chat.top_k
    return told


def extras(chat: Chat) -> Json:
    """Return what else can be said: where to stop, for whom it is, what capacity to use, what to cache."""
    told: Json = {}
    stops = [chat.stop] if isinstance(chat.stop, str) else chat.stop or []
    if visible := [text for text in stops if text.strip()]:
        told["stop_sequences"] = visible
    user = chat.safety_identifier or (chat.metadata or {}).get("user_id")
    if isinstance(user, str) and user:
        told["metadata"] = {"user_id": user}
    if (tier := _TIERS.get(chat.service_tier or "")) is not None:
        told["service_tier"] = tier
    if chat.cache_control is not None:
        told["cache_control"] = chat.cache_control
    return told
