"""A gateway for each file, set back for each test; what plays in it, and a client of one's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.testing.staged import Agent, Stage

from flatfee.testing import ScriptedGateway, running_gateway


@pytest.fixture(scope="module")
def running() -> Iterator[ScriptedGateway]:
    with running_gateway(concurrent_workflows=16) as gateway:
        yield gateway


@pytest.fixture
def gateway(running: ScriptedGateway) -> ScriptedGateway:
    running.reset()
    return running


@pytest.fixture
def stage(gateway: ScriptedGateway) -> Iterator[Stage]:
    app = gateway._inside.front.app
    yield Stage(gateway)
    gateway._inside.front.app = app


@pytest.fixture
def agent(gateway: ScriptedGateway) -> Iterator[Agent]:
    agent = Agent(gateway)
    yield agent
    agent.http.close()
