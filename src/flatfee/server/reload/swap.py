"""One process's change to another configuration, in two steps: what can fail, and what cannot."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager

from flatfee.server.gateway import Gateway
from flatfee.server.providers.base import Provider
from flatfee.server.providers.registry import renew_providers
from flatfee.server.settings import Settings
from flatfee.server.store.base import Store

Renew = Callable[[Mapping[str, Provider], Settings, Settings], Mapping[str, Provider]]
"""How the providers of another configuration are made: from those there are, the settings before and those after."""


class Swap:
    """Prepares a gateway for settings, and then makes it serve by them, or forget them."""

    def __init__(self, gateway: Gateway, renew: Renew = renew_providers) -> None:
        self._gateway = gateway
        self._renew = renew
        self._coming: tuple[Settings, Mapping[str, Provider]] | None = None

    @property
    def settings(self) -> Settings:
        """What the gateway serves by."""
        return self._gateway.settings

    @property
    def ending(self) -> bool:
        """Whether it is shutting down."""
        return self._gateway.draining

    @asynccontextmanager
    async def ledger(self) -> AsyncGenerator[Store]:
        """Yield the gateway's own."""
        yield self._gateway.store

    async def prepare(self, settings: Settings) -> None:
        """Make all that these settings need; requests may come by their plans from now on."""
        gateway = self._gateway
        self._coming = settings, self._renew(gateway.providers, gateway.settings, settings)
        gateway.beside = settings

    async def switch(self) -> None:
        """Serve by the settings that were prepared. This cannot fail."""
        assert self._coming is not None  # noqa: S101 - whoever switches has prepared it
        self._gateway.adopt(*self._coming)
        self._coming = None

    async def forget(self) -> None:
        """Go on as before."""
        self._coming = self._gateway.beside = None
