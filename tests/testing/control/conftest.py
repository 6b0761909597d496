"""A process's gateways, and the control API of the first one, as another language would use it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from flatfee.testing.control.family import Family


class Caller:
    """Speaks to one control API. ``ended`` is set once it was told to stop."""

    def __init__(self, base_url: str, ended: threading.Event) -> None:
        self.base_url = base_url
        self.ended = ended
        self._http = httpx.Client(base_url=base_url, timeout=60.0)

    def ask(self, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        return self._http.request(method, path, json=body, **options)

    def told(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Ask what must go well."""
        answer = self.ask(method, path, body)
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    def refused(self, method: str, path: str, body: Any = None) -> str:
        """Ask what must be refused; return the message."""
        answer = self.ask(method, path, body)
        assert answer.status_code in {400, 404}, answer.text
        message: str = answer.json()["error"]["message"]
        return message

    def close(self) -> None:
        self._http.close()


@pytest.fixture
def control() -> Iterator[Caller]:
    ended = threading.Event()
    with Family(ended.set) as family:
        gateway = family.start({})
        caller = Caller(f"http://127.0.0.1:{gateway.port}/_test", ended)
        yield caller
        caller.close()
