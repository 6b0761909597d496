"""Our client against our gateway: in memory where that suffices, over loopback where streams count."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager

import httpx
import pytest

from flatfee import AsyncClient, Client
from flatfee.cli.demo.gateway import DemoGateway, running_gateway
from flatfee.server.app import App, create_app
from flatfee.server.configuration import parse_settings
from flatfee.server.keys import KeyKind, new_key

CONFIGURATION = """
[server]
port = 0
store = "memory://"

[[providers]]
name = "north"
kind = "simulated"

[[providers]]
name = "south"
kind = "simulated"

[[routes]]
name = "north-premium"
provider = "north"
model = "sim-large"
tier = "premium"
priority = 1

[[routes]]
name = "south-premium"
provider = "south"
model = "sim-large-too"
tier = "premium"
priority = 2

[[routes]]
name = "north-economy"
provider = "north"
model = "sim-small"
tier = "economy"

[[plans]]
name = "pro"
fair_use = 20000
output_reserve = 500
concurrent_workflows = 2

[[accounts]]
name = "acme"
plan = "pro"

[[accounts.projects]]
name = "ci"
keys = [{ name = "ci", key_env = "FLATFEE_DEMO_KEY" }]
"""
HELLO = [{"role": "user", "content": "Hello there, gateway."}]


@asynccontextmanager
async def connected(configuration: str = CONFIGURATION) -> AsyncGenerator[tuple[AsyncClient, App], None]:
    """A client whose requests reach a gateway without a socket between them."""
    key = new_key(KeyKind.PROJECT)
    app = create_app(parse_settings(configuration, source="the test", env={"FLATFEE_DEMO_KEY": key}))
    async with app.running(), httpx.AsyncClient(transport=httpx.ASGITransport(app)) as http:
        yield AsyncClient(api_key=key, base_url="http://gateway.test/v1", http_client=http), app


@pytest.fixture
async def pair() -> AsyncGenerator[tuple[AsyncClient, App], None]:
    async with connected() as both:
        yield both


@pytest.fixture
def gateway() -> Generator[DemoGateway]:
    with running_gateway(CONFIGURATION) as running:
        yield running


@pytest.fixture
def client(gateway: DemoGateway) -> Generator[Client]:
    with Client(api_key=gateway.key, base_url=gateway.url, max_retries=0) as made:
        yield made
