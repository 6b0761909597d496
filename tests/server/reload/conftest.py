"""A gateway on a file that a test edits; its providers follow scripts, and tell when they are closed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.server.fakes import KEY, Reply, ScriptedProvider, make_body

from flatfee.server.app import App, create_app
from flatfee.server.gateway import Gateway
from flatfee.server.providers.base import Provider
from flatfee.server.reload.reloader import Reloader
from flatfee.server.reload.source import Source
from flatfee.server.reload.swap import Swap
from flatfee.server.settings import Settings
from flatfee.server.store.base import Store
from flatfee.server.store.memory import MemoryStore

ADMIN_KEY = "canary-key-of-the-operator-0123456789"
ENV = {"CI_KEY": KEY, "DOCS_KEY": "canary-key-of-the-project-docs-0123456789", "FLATFEE_ADMIN_KEY": ADMIN_KEY}

PROVIDERS = '{name = "fake", kind = "simulated"}'
ROUTES = '{name = "first", provider = "fake", model = "one", tier = "premium"}'
PLANS = '{name = "pro", fair_use = 100000, concurrent_workflows = 100}'
PROJECTS = '[{name = "ci", keys = [{name = "ci", key_env = "CI_KEY"}]}]'


def text(
    *,
    providers: str = PROVIDERS,
    routes: str = ROUTES,
    plans: str = PLANS,
    plan: str = "pro",
    projects: str = PROJECTS,
    server: str = "",
    more: str = "",
) -> str:
    """Return a configuration file."""
    return f"""
providers = [{providers}]
routes = [{routes}]
plans = [{plans}]
accounts = [{{name = "acme", plan = "{plan}", projects = {projects}}}]
server = {{store = "memory://", port = 0{server and ", "}{server}}}
{more}
"""


class Desk:
    """A gateway, its file, and every provider that was ever made for it, oldest first."""

    def __init__(self, path: Path, store: Store) -> None:
        self.path = path
        self.store = store
        self.made: list[tuple[str, ScriptedProvider]] = []
        self.scripts: dict[str, Mapping[str, Reply]] = {}
        self.app: App
        self.client: httpx.AsyncClient

    @property
    def gateway(self) -> Gateway:
        return self.app.gateway

    def renew(self, providers: Mapping[str, Provider], before: Settings, after: Settings) -> dict[str, Provider]:
        """As the real one does, with scripted providers."""
        return {
            entry.name: providers[entry.name] if before.provider(entry.name) == entry else self._make(entry.name)
            for entry in after.providers
        }

    def _make(self, name: str) -> ScriptedProvider:
        provider = ScriptedProvider(**self.scripts.get(name, {}))
        self.made.append((name, provider))
        return provider

    def write(self, **parts: str) -> None:
        self.path.write_text(text(**parts))

    async def reload(self, **parts: str) -> httpx.Response:
        """Write the file anew, and have it read."""
        self.write(**parts)
        return await self.ask_to_reload()

    async def ask_to_reload(self) -> httpx.Response:
        return await self.client.post("/admin/v1/reload", headers={"authorization": f"Bearer {ADMIN_KEY}"})

    async def ask(self, **body: Any) -> httpx.Response:
        return await self.client.post("/v1/chat/completions", json=make_body(**body))

    async def served(self, **body: Any) -> tuple[str, str]:
        """Return route and model that answer a completion."""
        response = await self.ask(**body)
        assert response.status_code == 200, response.text
        receipt = response.json()["flatfee"]
        return receipt["route"], receipt["model_served"]


@asynccontextmanager
async def at_desk(folder: Path, store: Store | None = None, **parts: str) -> AsyncGenerator[Desk]:
    """Run a gateway on a file in ``folder``."""
    desk = Desk(folder / "flatfee.toml", store or MemoryStore())
    desk.write(**parts)
    source = Source(path=desk.path, env=ENV)
    settings = source.read()
    providers = {entry.name: desk._make(entry.name) for entry in settings.providers}
    desk.app = create_app(settings, store=desk.store, providers=providers)
    desk.gateway.chance = lambda: 0.0
    desk.gateway.reloading = Reloader(source, Swap(desk.gateway, desk.renew))
    headers = {"authorization": f"Bearer {KEY}"}
    async with desk.app.running():
        transport = httpx.ASGITransport(desk.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers) as client:
            desk.client = client
            yield desk


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with at_desk(tmp_path) as desk:
        yield desk
