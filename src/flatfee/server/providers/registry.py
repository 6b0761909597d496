"""A provider's API → its adapter. A service is a row of ``rows``; only an API of another shape comes here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from flatfee.server.providers.anthropic.provider import AnthropicProvider
from flatfee.server.providers.base import Provider
from flatfee.server.providers.openai import OpenAIProvider
from flatfee.server.providers.simulated import SimulatedProvider
from flatfee.server.settings import ProviderSettings, Settings

APIS: Final[Mapping[str, Callable[[ProviderSettings], Provider]]] = {
    "anthropic": AnthropicProvider,
    "openai": OpenAIProvider,
    "simulated": SimulatedProvider,
}


def make_providers(settings: Iterable[ProviderSettings]) -> dict[str, Provider]:
    """Make every configured provider, by name."""
    return {entry.name: _make(entry) for entry in settings}


def renew_providers(providers: Mapping[str, Provider], before: Settings, after: Settings) -> dict[str, Provider]:
    """Make the providers of another configuration; those whose settings are the same are kept as they are."""
    return {
        entry.name: providers[entry.name] if before.provider(entry.name) == entry else _make(entry)
        for entry in after.providers
    }


def _make(entry: ProviderSettings) -> Provider:
    return APIS[entry.row.api](entry)
