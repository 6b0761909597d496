"""Clients of a scripted gateway, ready-made. Between tries they sleep by the gateway's clock."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import flatfee
from flatfee.testing.running.moving import client_clock
from flatfee.testing.running.visits import MemoryServer

if TYPE_CHECKING:
    from flatfee.testing.gateway import ScriptedGateway


@dataclass(frozen=True, slots=True)
class Clients:
    """The clients that were made, until the gateway ends."""

    _memory: MemoryServer
    _made: ExitStack = field(default_factory=ExitStack)

    def client(self, gateway: ScriptedGateway, *, memory: bool, **options: Any) -> flatfee.Client:
        """Make a blocking client."""
        if _in_memory(gateway, options, memory=memory):
            from flatfee.testing.running.memory import client_of

            options["http_client"] = self._made.enter_context(client_of(self._memory))
        return self._made.enter_context(flatfee.Client(**_usual(gateway, gateway.sleep) | options))

    def async_client(self, gateway: ScriptedGateway, *, memory: bool, **options: Any) -> flatfee.AsyncClient:
        """Make one for coroutines. Its connections end with its event loop, if nobody closes it before."""
        if _in_memory(gateway, options, memory=memory):
            from flatfee.testing.running.memory import async_client_of

            options["http_client"] = async_client_of(self._memory)
        return flatfee.AsyncClient(**_usual(gateway, gateway.asleep) | options)

    def close(self) -> None:
        """Close what was made."""
        self._made.close()


def _usual(gateway: ScriptedGateway, sleep: Callable[[float], object]) -> dict[str, Any]:
    return {"api_key": gateway.api_key, "base_url": gateway.base_url, "sleep": sleep, "clock": client_clock}


def _in_memory(gateway: ScriptedGateway, options: dict[str, Any], *, memory: bool) -> bool:
    return "http_client" not in options and (memory or not gateway.options.socket)
