"""The text of a first configuration, from what was chosen. Pure: nothing is read, asked or written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from string import Template

PLAN = "standard"
"""The plan that the template names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A provider and its two models. What of its address and its key's variable is absent is its kind's.

    ``slow`` gives its routes more time until the first token: for a machine of one's own, which may load a model first.
    """

    name: str
    kind: str
    base_url: str | None = None
    key_env: str | None = None
    premium: str
    economy: str
    slow: bool = False


SIMULATED = Choice(name="simulated", kind="simulated", premium="sim-large", economy="sim-small")
OPENAI = Choice(name="openai", kind="openai", premium="gpt-5.1", economy="gpt-5-mini")
"""The only service whose models are known here: names of models age."""


def draft(template: str, choice: Choice, store: str) -> str:
    """Return the configuration: ``template`` filled with a provider, its routes and the place of the ledger."""
    provider: list[tuple[str, str | float]] = [("name", choice.name), ("kind", choice.kind)]
    if choice.base_url is not None:
        provider.append(("base_url", choice.base_url))
    if choice.key_env is not None:
        provider.append(("api_key_env", choice.key_env))
    routes = [
        _table("routes", _route(choice, tier, model))
        for tier, model in (("premium", choice.premium), ("economy", choice.economy))
    ]
    filled = {"store": _text(store), "providers": _table("providers", provider), "routes": "\n\n".join(routes)}
    return Template(template).substitute(filled)


def _route(choice: Choice, tier: str, model: str) -> list[tuple[str, str | float]]:
    slowly: list[tuple[str, str | float]] = [("first_token_timeout", 60.0)] if choice.slow else []
    return [("name", f"{choice.name}-{tier}"), ("provider", choice.name), ("model", model), ("tier", tier), *slowly]


def _table(name: str, rows: Sequence[tuple[str, str | float]]) -> str:
    return "\n".join([f"[[{name}]]", *(f"{key} = {_text(value)}" for key, value in rows)])


def _text(value: str | float) -> str:
    """Return a string or a number as TOML writes it: JSON's escapes are TOML's, too, but for halves of characters."""
    return json.dumps(value, ensure_ascii=False)
