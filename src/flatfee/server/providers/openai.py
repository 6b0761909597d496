"""Any OpenAI-compatible API: chat completions pass through as the bytes that they are."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from flatfee.server.providers.http import HttpAnswer, HttpConnection
from flatfee.server.settings import ProviderSettings, RouteSettings


class OpenAIProvider:
    """``base_url`` and a bearer key, where the API wants one."""

    def __init__(self, settings: ProviderSettings) -> None:
        key = settings.api_key
        headers = {"authorization": f"Bearer {key.get_secret_value()}"} if key is not None else {}
        self._connection = HttpConnection(f"{settings.base_url}/chat/completions", headers)

    def send(self, route: RouteSettings, body: bytes, *, stream: bool) -> AbstractAsyncContextManager[HttpAnswer]:
        return self._connection.post(route, body, stream=stream)

    async def close(self) -> None:
        """Close its connections."""
        await self._connection.close()
