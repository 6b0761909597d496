"""One process's change to another configuration, in two steps: what can fail, and what cannot."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from flatfee.server.gateway import Gateway
from flatfee.server.providers.base import Provider
from flatfee.server.providers.registry import renew_providers
from flatfee.server.settings import Settings

Renew = Callable[[Mapping[str, Provider], Settings, Settings], Mapping[str, Provider]]
"""How the providers of another configuration are made: from those there are, the settings before and those after."""


class Swap:
    """Prepares a gateway for settings, and then makes it serve by them, or forget them."""

    def __init__(self, gateway: Gateway, renew: Renew = renew_providers) -> None:
        self._gateway = gateway
        self._renew = renew
        self._coming: tuple[Settings, Mapping[str, Provider]] | None = None

    def prepare(self, settings: Settings) -> None:
        """Make all that these settings need; requests may come by their plans from now on."""
        gateway = self._gateway
        self._coming = settings, self._renew(gateway.providers, gateway.settings, settings)
        gateway.beside = settings

    def make(self) -> None:
        """Serve by the settings that were prepared. This cannot fail."""
        assert self._coming is not None  # noqa: S101 - whoever makes it has prepared it
        self._gateway.adopt(*self._coming)
        self._coming = None

    def forget(self) -> None:
        """Go on as before."""
        self._coming = self._gateway.beside = None
