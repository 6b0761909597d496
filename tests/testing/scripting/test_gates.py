"""An answer can be held back until the test lets it go, while others are in flight."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.testing.asking import asked, user

import flatfee
from flatfee.testing import Gate, Reply, ScriptedGateway, running_gateway
from flatfee.testing.scripting.played import Held, Pause


@pytest.fixture
def gateway() -> Iterator[ScriptedGateway]:
    with running_gateway(concurrent_workflows=2) as gateway:
        yield gateway


@pytest.fixture
def client(gateway: ScriptedGateway) -> Iterator[flatfee.Client]:
    with flatfee.Client(api_key=gateway.api_key, base_url=gateway.base_url, max_retries=0) as client:
        yield client


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def test_the_third_workflow_is_refused_while_two_are_held(
    gateway: ScriptedGateway, client: flatfee.Client, pool: ThreadPoolExecutor
) -> None:
    gate = gateway.gate()
    gateway.script(gate.then("late"))

    def say(workflow: str) -> Any:
        return client.chat.completions.create(model="premium", messages=[user("Hello")], workflow=workflow)

    held = [pool.submit(say, name) for name in ("one", "two")]
    gate.wait_until_waiting(2)
    with pytest.raises(flatfee.ConcurrencyLimitError):
        say("three")
    assert gate.waiting == 2
    assert not gate.is_open
    gate.open()
    assert [each.result().choices[0].message.content for each in held] == ["late", "late"]
    assert gate.waiting == 0


def test_an_open_gate_holds_nothing(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    gate = gateway.gate()
    gate.open()
    gateway.script(gate.then("now"))
    answer = client.chat.completions.create(model="premium", messages=[user("Hello")])
    assert answer.choices[0].message.content == "now"
    assert gate.is_open


def test_time_does_not_skip_while_an_answer_is_held(
    gateway: ScriptedGateway, client: flatfee.Client, pool: ThreadPoolExecutor
) -> None:
    gate = gateway.gate()
    gateway.script(gate.then("late"))
    before = gateway.now
    held = pool.submit(client.chat.completions.create, model="premium", messages=[user("Hello")])
    gate.wait_until_waiting()
    gate.open()
    assert held.result().receipt is not None
    assert (gateway.now - before).total_seconds() < 300


def test_who_waits_for_a_gate_in_vain_is_told() -> None:
    with pytest.raises(TimeoutError, match="0 of 2 answers wait at the gate after 0 s"):
        Gate().wait_until_waiting(2, timeout=0)


def test_a_gateway_can_be_closed_with_an_answer_held(pool: ThreadPoolExecutor) -> None:
    with running_gateway() as gateway:
        gate = gateway.gate()
        gateway.script(gate.then("never"))
        client = flatfee.Client(api_key=gateway.api_key, base_url=gateway.base_url, max_retries=0)
        held = pool.submit(client.chat.completions.create, model="premium", messages=[user("Hello")])
        gate.wait_until_waiting()
    with pytest.raises(flatfee.APIConnectionError):
        held.result()
    client.close()
    gate.open()
    assert gate.waiting == 0


def test_only_an_answer_can_be_held() -> None:
    class Edge:
        def begin(self, asked: object) -> None:
            """Happen."""

    wrong: Any = Edge()
    with pytest.raises(TypeError, match="only what a provider answers can be held back"):
        Gate().then(wrong)
    with pytest.raises(TypeError, match="only what a provider answers can be held back"):
        Gate().then(lambda _: wrong).play(asked())


def test_what_a_function_makes_can_be_held() -> None:
    gate = Gate()
    played = gate.then(lambda asked: Reply(text=str(asked.number), delay=1)).play(asked(number=7))
    assert played.before == (Held(gate), Pause(1))
    assert b'"7"' in b"".join(piece for piece in played.pieces if isinstance(piece, bytes))
