"""Clients before a gateway: the good ones pass, and one that is bad in one way is told that way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from tests.testing.staged import (
    USER,
    Act,
    Agent,
    Stage,
    called,
    chunk,
    endless,
    fail_midway,
    refuse,
    refuse_without_headers,
)

import flatfee
from flatfee.testing import Edge, Raw, ScriptedGateway, running_gateway
from flatfee.wire import ErrorCode

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "testing-verdicts.md"
PARTIAL = "The answer is forty-two, becau"


def rules(gateway: ScriptedGateway, **limits: Any) -> str:
    return " ".join(gateway.verdict(settle=0.2, **limits).rules)


# Agents of their own making


def test_an_agent_that_does_as_it_is_told_passes(gateway: ScriptedGateway, stage: Stage, agent: Agent) -> None:
    stage.queue += [refuse(ErrorCode.RATE_LIMITED, 7), refuse(ErrorCode.STORE_UNAVAILABLE)]
    while (answer := agent.ask(headers={"x-flatfee-workflow": "run"})).headers.get("x-should-retry") == "true":
        agent.wait(float(answer.headers["retry-after"]))
    with agent.http.stream("POST", "/chat/completions", content=agent.request(stream=True).content) as stream:
        stream.read()
    agent.http.delete("/workflows/run")
    gateway.assert_resilient(slots=True, must_retry=True)
    assert gateway.verdict().text().startswith("The client is resilient, as far as 5 requests tell.\n\n#  at")


def test_an_agent_that_does_not_wait(gateway: ScriptedGateway, stage: Stage, agent: Agent) -> None:
    stage.queue += [refuse(ErrorCode.RATE_LIMITED, 7), refuse(ErrorCode.RATE_LIMITED, 7)]
    agent.ask()
    agent.wait(6.5)
    agent.ask()
    agent.wait(7)
    agent.ask()
    (violation,) = gateway.verdict().violations
    assert violation.rule == "retry_after"
    assert "after #1 got 429 rate_limited, which told to wait 7 s (Retry-After)" in violation.message
    assert [entry.number for entry in violation.requests] == [1, 2]


def test_an_agent_that_repeats_what_is_final(gateway: ScriptedGateway, stage: Stage, agent: Agent) -> None:
    stage.queue += [refuse(ErrorCode.FALLBACK_EXHAUSTED)]
    agent.ask()
    agent.wait(60)
    agent.ask()
    assert rules(gateway) == "final_error"


def test_an_agent_that_repeats_what_is_final_without_a_stream(
    gateway: ScriptedGateway, stage: Stage, agent: Agent
) -> None:
    stage.queue += [refuse(ErrorCode.FALLBACK_EXHAUSTED)]
    agent.ask(stream=True, stream_options={"include_usage": True})
    agent.ask()
    assert rules(gateway) == "final_error"


def test_an_agent_that_asks_for_a_stream_and_then_for_none_needs_another_key(
    gateway: ScriptedGateway, agent: Agent
) -> None:
    gateway.script(Edge.cut(), times=1)
    with pytest.raises(httpx.RemoteProtocolError):
        agent.ask(stream=True, headers={"Idempotency-Key": "streamed"})
    agent.ask(headers={"Idempotency-Key": "plain"})
    assert rules(gateway) == ""


def test_an_agent_that_hammers(gateway: ScriptedGateway, stage: Stage, agent: Agent) -> None:
    stage.queue += [refuse(ErrorCode.PROVIDER_UNAVAILABLE, 1)] * 12
    while agent.ask().status_code != 200:
        pass
    assert rules(gateway) == "retry_after tries burst"


def test_an_agent_that_never_reads_its_stream(gateway: ScriptedGateway, stage: Stage, agent: Agent) -> None:
    stage.queue += [endless(200)]
    stream = agent.http.send(agent.request(stream=True), stream=True)
    (violation,) = gateway.verdict(settle=0.2).violations
    assert violation.rule == "open_stream"
    assert "nothing of it was read since" in violation.message
    stream.close()
    gateway.journal.wait_until(lambda journal: journal.last.ended is not None, "the stream is closed")
    gateway.assert_resilient()
    assert gateway.journal.last.ending == "left"


def test_a_stream_that_was_just_closed_is_not_open(gateway: ScriptedGateway, stage: Stage, agent: Agent) -> None:
    stage.queue += [endless(200)]
    agent.http.send(agent.request(stream=True), stream=True).close()
    gateway.assert_resilient()


def test_an_agent_that_builds_on_a_cut_answer(gateway: ScriptedGateway, stage: Stage, agent: Agent) -> None:
    stage.queue += [fail_midway(chunk(content=PARTIAL[:9]), chunk(content=PARTIAL[9:]))]
    agent.ask(stream=True)
    agent.ask(messages=[USER, {"role": "assistant", "content": PARTIAL}, {"role": "user", "content": "And?"}])
    assert rules(gateway) == "truncation"


def test_an_agent_that_runs_a_cut_tool_call(gateway: ScriptedGateway, stage: Stage, agent: Agent) -> None:
    stage.queue += [fail_midway(chunk(tool_calls=[called('{"amount": 1')]))]
    agent.ask(stream=True)
    spoken = {"role": "assistant", "content": None, "tool_calls": [called('{"amount": 1}')]}
    agent.ask(messages=[USER, spoken, {"role": "tool", "tool_call_id": "call-1", "content": "paid"}])
    assert "result of the tool pay" in gateway.verdict().violations[0].message


def test_an_agent_that_forgets_its_deadline(gateway: ScriptedGateway, stage: Stage, agent: Agent) -> None:
    stage.queue += [refuse(ErrorCode.RATE_LIMITED, 1)]
    for _ in range(2):
        agent.ask(headers={"x-flatfee-deadline-ms": "5000"})
        agent.wait(1)
        time.sleep(0.002)  # some real time: an agent may not know of the gateway's
    assert rules(gateway) == "deadline"


def test_an_agent_that_pays_twice(gateway: ScriptedGateway, agent: Agent) -> None:
    agent.ask("one", headers={"Idempotency-Key": "same"})
    agent.ask("two", headers={"Idempotency-Key": "same"})
    assert rules(gateway) == "idempotency"


def test_an_agent_that_keeps_its_slots(gateway: ScriptedGateway, agent: Agent) -> None:
    agent.ask(headers={"x-flatfee-workflow": "kept"})
    assert rules(gateway) == ""
    assert rules(gateway, slots=True) == "slots"
    gateway.advance(gateway.options.workflow_idle + 1)
    assert rules(gateway, slots=True) == ""


def test_what_a_test_has_changed_may_be_asked_again(gateway: ScriptedGateway, agent: Agent) -> None:
    def all_down() -> None:
        for route in gateway.routes.values():
            route.down()

    changes: list[tuple[Callable[[], object], Callable[[], object]]] = [
        (lambda: gateway.account.set(billing="suspended"), lambda: gateway.account.set(billing="active")),
        (lambda: gateway.script(Raw(status=400)), lambda: gateway.script("Better.", first=True)),
        (all_down, gateway.routes["premium-a"].up),
    ]
    for number, (worse, better) in enumerate(changes):
        worse()
        assert agent.ask(f"{number}").headers["x-should-retry"] == "false"
        better()
        gateway.routes["premium-a"].close()
        assert agent.ask(f"{number}").status_code == 200
    gateway.assert_resilient()


def test_every_violation_and_the_table_are_told(gateway: ScriptedGateway, stage: Stage, agent: Agent) -> None:
    stage.queue += [refuse(ErrorCode.RATE_LIMITED, 7), refuse(ErrorCode.BILLING_INACTIVE)]
    for _ in range(3):
        agent.ask("My secret plan")
    with pytest.raises(AssertionError) as caught:
        gateway.assert_resilient()
    told = str(caught.value)
    assert "- retry_after: #2 came" in told
    assert "- final_error: #3 sent #2 again" in told
    assert "402 billing_inactive" in told.splitlines()[-2]
    assert "secret" not in told
    assert gateway.api_key[-8:] not in told


def test_a_gateway_that_is_closed_still_tells() -> None:
    with running_gateway() as gateway:
        agent = Agent(gateway)
        agent.ask(headers={"x-flatfee-workflow": "run"})
        agent.http.close()
    gateway.assert_resilient()
    assert rules(gateway, slots=True) == "slots"


# Clients of others, and ours


class OpenAI(openai.OpenAI):
    """openai-python, whose waits take the gateway's time."""

    gateway: ScriptedGateway

    def _sleep_for_retry(self, *, retries_taken: int, max_retries: int, options: Any, response: Any) -> None:
        left = max_retries - retries_taken
        self.gateway.sleep(self._calculate_retry_timeout(left, options, response.headers if response else None))


@pytest.fixture
def theirs(gateway: ScriptedGateway) -> Iterator[OpenAI]:
    with OpenAI(api_key=gateway.api_key, base_url=gateway.base_url) as client:
        client.gateway = gateway
        yield client


@pytest.fixture
def ours(gateway: ScriptedGateway) -> Iterator[flatfee.Client]:
    with flatfee.Client(api_key=gateway.api_key, base_url=gateway.base_url, sleep=gateway.sleep) as client:
        yield client


def test_our_client_passes_with_retries_deadline_workflow_and_streams(
    gateway: ScriptedGateway, stage: Stage, ours: flatfee.Client
) -> None:
    stage.queue += [refuse(ErrorCode.RATE_LIMITED, 2), refuse(ErrorCode.WORKFLOW_LIMIT, 1)]
    with ours.workflow("run") as run:
        run.chat.completions.create(model="auto", messages=[USER], deadline=30)
        stage.queue += [refuse(ErrorCode.STORE_UNAVAILABLE), fail_midway(chunk(content=PARTIAL))]
        with pytest.raises(flatfee.APIError):
            list(run.chat.completions.create(model="auto", messages=[USER], stream=True))
        with run.chat.completions.create(model="auto", messages=[USER, USER], stream=True) as stream:
            next(iter(stream))
    gateway.assert_resilient(slots=True)
    assert [len(call.entries) for call in gateway.journal.completions.calls] == [3, 2, 1]


async def test_our_client_for_coroutines_passes(gateway: ScriptedGateway, stage: Stage) -> None:
    stage.queue += [refuse(ErrorCode.RATE_LIMITED, 2), refuse(ErrorCode.STORE_UNAVAILABLE)]
    async with gateway.async_client() as client, client.workflow("run") as run:
        await run.chat.completions.create(model="auto", messages=[USER], deadline=30)
        async with await run.chat.completions.create(model="auto", messages=[USER, USER], stream=True) as stream:
            assert [chunk async for chunk in stream]
    gateway.assert_resilient(slots=True)
    assert [len(call.entries) for call in gateway.journal.completions.calls] == [3, 1]


def test_a_deadline_holds_for_all_tries_of_our_client(gateway: ScriptedGateway, stage: Stage) -> None:
    stage.queue += [refuse(ErrorCode.RATE_LIMITED, 4)] * 3
    with pytest.raises(flatfee.RateLimitError):
        gateway.client().chat.completions.create(model="auto", messages=[USER], deadline=10)
    gateway.assert_resilient()
    told = [entry.deadline_ms or 0 for entry in gateway.journal]
    assert [round(each / 1000) for each in told] == [10, 6, 2]


def test_openai_python_passes_with_retries_and_streams(gateway: ScriptedGateway, stage: Stage, theirs: OpenAI) -> None:
    stage.queue += [refuse(ErrorCode.RATE_LIMITED, 2), refuse(ErrorCode.WORKFLOW_LIMIT, 1)]
    theirs.chat.completions.create(model="auto", messages=[USER])
    stage.queue += [fail_midway(chunk(content=PARTIAL))]
    with pytest.raises(openai.APIError):
        list(theirs.chat.completions.create(model="auto", messages=[USER], stream=True))
    gateway.assert_resilient()
    assert [entry.retry_count for entry in gateway.journal] == [0, 1, 2, 0]


def test_a_fixed_header_is_a_deadline_that_openai_python_cannot_keep(
    gateway: ScriptedGateway, stage: Stage, theirs: OpenAI
) -> None:
    """It knows of no deadline: whoever sends one by hand sends the same with each try."""
    stage.queue += [refuse(ErrorCode.RATE_LIMITED, 2)]
    theirs.chat.completions.create(model="auto", messages=[USER], extra_headers={"x-flatfee-deadline-ms": "5000"})
    assert rules(gateway) == "deadline"


def test_a_second_layer_of_retries_multiplies_the_first(gateway: ScriptedGateway, stage: Stage, theirs: OpenAI) -> None:
    stage.queue += [refuse(ErrorCode.STORE_UNAVAILABLE)] * 9
    for _ in range(3):
        with pytest.raises(openai.InternalServerError):
            theirs.chat.completions.create(model="auto", messages=[USER])
        gateway.advance(2)
    (violation,) = gateway.verdict().violations
    assert violation.rule == "tries"
    assert "9 tries of one call; 6 are allowed" in violation.message


@pytest.mark.parametrize("kind", ["ours", "theirs"])
def test_many_calls_of_one_prompt_are_not_taken_for_one(
    gateway: ScriptedGateway, stage: Stage, theirs: OpenAI, kind: str
) -> None:
    theirs.max_retries = 20
    client: Any = theirs if kind == "theirs" else gateway.client(max_retries=20)
    stage.queue += [refuse(ErrorCode.RATE_LIMITED, wait) for wait in (4, 1, 2, 3) * 5]

    def twice(_: int) -> None:
        for _ in range(2):
            client.chat.completions.create(model="auto", messages=[USER])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(twice, range(8)))
    gateway.assert_resilient(must_retry=True, most_tries=21)
    assert (len(gateway.journal), len(gateway.journal.calls)) == (36, 16)


# What the guide says of them


def measured(gateway: ScriptedGateway, stage: Stage, act: Act, ask: Callable[..., object]) -> str:
    """How many requests a client sent for a call that always gets one answer, and the rules that it broke."""
    gateway.reset()
    stage.queue.clear()
    stage.queue += [act] * 10
    with pytest.raises((openai.APIStatusError, flatfee.APIStatusError)):
        ask(model="auto", messages=[USER])
    return ", ".join([str(len(gateway.journal)), *(f"`{rule}`" for rule in gateway.verdict().rules)])


def test_the_guide_tells_how_clients_are_judged(
    gateway: ScriptedGateway, stage: Stage, theirs: OpenAI, ours: flatfee.Client
) -> None:
    rows = [
        f"| `{code}` | {' | '.join(measured(gateway, stage, act, ask) for act in acts for ask in asks)} |"
        for code in ErrorCode
        for acts in [(refuse(code, 3), refuse_without_headers(code))]
        for asks in [(theirs.chat.completions.create, ours.chat.completions.create)]
    ]
    guide = GUIDE.read_text("utf-8")
    assert [row for row in rows if row not in guide] == []
    assert guide.count("| `") - len(rows) > 0
