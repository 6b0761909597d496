"""Any OpenAI-compatible API: chat completions pass through as the bytes that they are."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from flatfee.server.providers.http import HttpAnswer, HttpConnection, key_headers
from flatfee.server.settings import ProviderSettings, RouteSettings


class OpenAIProvider:
    """``base_url``, and a key where the service wants one, in the header where it wants it."""

    def __init__(self, settings: ProviderSettings) -> None:
        self._base_url = settings.base_url
        self._connection = HttpConnection(f"{self._base_url}/chat/completions", key_headers(settings))

    def send(self, route: RouteSettings, body: bytes, *, stream: bool) -> AbstractAsyncContextManager[HttpAnswer]:
        return self._connection.post(route, body, stream=stream)

    async def models(self, *, patience: float) -> bytes | None:
        """Return what ``GET /models`` tells."""
        return await self._connection.get(f"{self._base_url}/models", patience=patience)

    async def close(self) -> None:
        """Close its connections."""
        await self._connection.close()
