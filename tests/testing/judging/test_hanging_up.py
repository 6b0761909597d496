"""When a client has hung up: at once, though a gateway waits a moment for those who only send no more."""

from __future__ import annotations

import logging

import httpx
import pytest
from tests.testing.staged import Agent

import flatfee
from flatfee.testing import Edge, ScriptedGateway, running_gateway

pytestmark = pytest.mark.slow
"""It goes through many cases; ``make check`` has the time."""

HELLO = [{"role": "user", "content": "Hello"}]


def hang_up_on(agent: Agent, request: httpx.Request) -> None:
    """Send a request, and give up soon. Only reading is short of time, so that it is sent."""
    request.extensions["timeout"] = httpx.Timeout(30, read=0.1).as_dict()
    with pytest.raises(httpx.ReadTimeout):
        agent.http.send(request)


@pytest.mark.parametrize("after", [None, 2])
def test_a_client_whose_time_is_over_is_not_told_that_its_stream_is_open(
    gateway: ScriptedGateway, after: int | None
) -> None:
    gateway.script(Edge.stall(after=after))
    client = gateway.client(timeout=0.2, max_retries=0)
    with pytest.raises(flatfee.APITimeoutError):
        list(client.chat.completions.create(model="premium", messages=HELLO, stream=True))
    gateway.journal.wait_until(lambda journal: journal.last.ending == "left", "the client has hung up")
    assert gateway.journal.last.hung_up is not None
    gateway.assert_resilient(settle=0)


def test_the_next_try_after_a_time_limit_is_no_parallel_one(gateway: ScriptedGateway, agent: Agent) -> None:
    gateway.script(Edge.stall(), times=1)
    key = {"Idempotency-Key": "one"}
    hang_up_on(agent, agent.request(headers=key))
    agent.ask(headers=key)
    gateway.assert_resilient()
    assert len(gateway.journal.calls) == 1


def test_a_client_that_tries_again_at_once_after_its_time_limit_is_told(gateway: ScriptedGateway, agent: Agent) -> None:
    gateway.script(Edge.stall())
    for _ in range(3):
        hang_up_on(agent, agent.request())
    assert gateway.verdict(shortest_wait=5).rules == ("backoff",)  # seconds: this machine may be slow


def test_what_is_answered_after_a_client_has_hung_up_was_never_told_to_it(
    gateway: ScriptedGateway, agent: Agent
) -> None:
    """The gateway's time goes on: its route takes too long, and nobody is there to hear of that."""
    gateway.script(Edge.stall(), times=1)
    hang_up_on(agent, agent.request(stream=True))
    gateway.journal.wait_until(lambda journal: journal.last.ending == "left", "the agent has hung up")
    gateway.advance(3600)
    agent.ask(stream=True)
    first, _ = gateway.journal.wait_for(2)
    assert (first.ending, first.status, first.failed) == ("left", None, False)
    gateway.assert_resilient()


@pytest.mark.parametrize("after", [None, 2])
def test_a_gateway_that_ends_right_after_a_client_hung_up_has_nothing_to_log(
    after: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    with running_gateway() as gateway:
        gateway.script(Edge.stall(after=after))
        with pytest.raises(flatfee.APITimeoutError):
            list(gateway.client(timeout=0.1).chat.completions.create(model="premium", messages=HELLO, stream=True))
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
