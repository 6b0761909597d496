"""When a client has hung up: at once, though a gateway waits a moment for those who only send no more."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from tests.testing.staged import Agent

import flatfee
from flatfee.testing import Edge, ScriptedGateway, running_gateway

HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def running() -> Iterator[ScriptedGateway]:
    with running_gateway() as gateway:
        yield gateway


@pytest.fixture
def gateway(running: ScriptedGateway) -> ScriptedGateway:
    running.reset()
    return running


@pytest.mark.parametrize("after", [None, 2])
def test_a_client_whose_time_is_over_is_not_told_that_its_stream_is_open(
    gateway: ScriptedGateway, after: int | None
) -> None:
    gateway.script(Edge.stall(after=after))
    client = gateway.client(timeout=0.2, max_retries=0)
    with pytest.raises(flatfee.APITimeoutError):
        list(client.chat.completions.create(model="premium", messages=HELLO, stream=True))
    gateway.journal.wait_until(lambda journal: journal.last.ending == "left", "the client has hung up")
    assert gateway.journal.last.ended is None  # the gateway waits a moment
    gateway.assert_resilient(settle=0)


def test_the_next_try_after_a_time_limit_is_no_parallel_one(gateway: ScriptedGateway) -> None:
    gateway.script(Edge.stall(), times=1)
    gateway.client(timeout=0.2).chat.completions.create(model="premium", messages=HELLO)
    first, second = gateway.journal
    assert first.ended is None or first.ended > second.arrived
    gateway.assert_resilient()
    assert len(gateway.journal.calls) == 1


def test_a_client_that_tries_again_at_once_after_its_time_limit_is_told(gateway: ScriptedGateway) -> None:
    gateway.script(Edge.stall(), times=3)
    agent = Agent(gateway)
    for _ in range(3):
        with pytest.raises(httpx.ReadTimeout):
            agent.http.post("/chat/completions", content=agent.request().content, timeout=0.1)
    agent.http.close()
    assert gateway.verdict().rules == ("backoff",)


def test_what_is_answered_after_a_client_has_hung_up_was_never_told_to_it(gateway: ScriptedGateway) -> None:
    """The gateway's time goes on: its route takes too long, and nobody is there to hear of that."""
    gateway.script(Edge.stall(), times=1)
    agent = Agent(gateway)
    with pytest.raises(httpx.ReadTimeout):
        agent.http.post("/chat/completions", content=agent.request(stream=True).content, timeout=0.1)
    gateway.journal.wait_until(lambda journal: journal.last.ending == "left", "the agent has hung up")
    gateway.advance(3600)
    agent.ask(stream=True)
    agent.http.close()
    first, _ = gateway.journal.wait_for(2)
    assert (first.ending, first.status, first.failed) == ("left", None, False)
    gateway.assert_resilient()
