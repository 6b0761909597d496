"""``kind`` of a provider → how it is made. A new kind is a row here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from flatfee.server.providers.base import Provider
from flatfee.server.providers.openai import OpenAIProvider
from flatfee.server.providers.simulated import SimulatedProvider
from flatfee.server.settings import ProviderSettings

KINDS: Final[Mapping[str, Callable[[ProviderSettings], Provider]]] = {
    "openai": OpenAIProvider,
    "simulated": SimulatedProvider,
}


def make_providers(settings: Iterable[ProviderSettings]) -> dict[str, Provider]:
    """Make every configured provider, by name."""
    return {entry.name: KINDS[entry.kind](entry) for entry in settings}
