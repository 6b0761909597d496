"""``client.usage``: what is left of the plan."""

from __future__ import annotations

from typing import Unpack

from flatfee.client.exchange import Call, reader
from flatfee.client.resources.core import AsyncCore, Core
from flatfee.client.resources.options import plain_parts
from flatfee.types.gateway import Usage
from flatfee.types.params import CallOptions

_read_usage = reader(Usage)


def retrieval(options: CallOptions) -> Call[Usage]:
    """Return the call of the account's usage."""
    return Call(method="GET", path="/usage", read=_read_usage, **plain_parts(options))


class UsageResource:
    """Fair-use, continuation and workflows of the current window."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def retrieve(self, **options: Unpack[CallOptions]) -> Usage:
        """Return what was used and what is left."""
        return self._core.send(retrieval(options))


class AsyncUsageResource:
    """Fair-use, continuation and workflows of the current window."""

    def __init__(self, core: AsyncCore) -> None:
        self._core = core

    async def retrieve(self, **options: Unpack[CallOptions]) -> Usage:
        """Return what was used and what is left."""
        return await self._core.send(retrieval(options))
