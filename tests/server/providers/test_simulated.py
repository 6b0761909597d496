"""The simulated provider as the relay meets it: answers in pieces, and every way to go wrong."""

import asyncio
import json
from typing import Any

import pytest

from flatfee.server.providers import simulation
from flatfee.server.providers.base import ProviderFailure
from flatfee.server.providers.registry import APIS, make_providers
from flatfee.server.providers.simulated import MODEL_FAULTS, FaultKind, SimulatedFault, SimulatedProvider
from flatfee.server.settings import ProviderSettings, RouteSettings
from flatfee.wire import AttemptOutcome, Tier

BODY = b'{"model":"m","messages":[{"role":"user","content":"Tell me of the sea"}]}'


def route(model: str = "sim-large", name: str = "r") -> RouteSettings:
    return RouteSettings(name=name, provider="sim", model=model, tier=Tier.PREMIUM)


async def ask(
    provider: SimulatedProvider, *, stream: bool = False, body: bytes = BODY, model: str = "sim-large"
) -> tuple[int, dict[str, str], bytes]:
    async with provider.send(route(model), body, stream=stream) as upstream:
        return upstream.status, dict(upstream.headers), await upstream.read()


async def hangs(work: Any) -> bool:
    """Tell whether work is still waiting after the event loop has had nothing else to do."""
    task = asyncio.ensure_future(work)
    for _ in range(100):
        await asyncio.sleep(0)
    waiting = not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return waiting


@pytest.mark.parametrize("stream", [False, True])
async def test_it_answers_with_what_the_simulation_says(stream: bool) -> None:
    expected = b"".join(simulation.streamed(BODY)) if stream else simulation.plain(BODY)
    assert await ask(SimulatedProvider(), stream=stream) == (200, {}, expected)


async def test_a_stream_comes_event_by_event() -> None:
    async with SimulatedProvider().send(route(), BODY, stream=True) as upstream:
        assert [piece async for piece in upstream.chunks()] == simulation.streamed(BODY)


async def test_it_remembers_which_routes_were_asked() -> None:
    provider = SimulatedProvider()
    for name in ("a", "b", "a"):
        async with provider.send(route(name=name), BODY, stream=False):
            pass
    assert provider.calls == ["a", "b", "a"]
    await provider.close()


async def test_a_scripted_error_has_status_code_and_retry_after() -> None:
    provider = SimulatedProvider()
    provider.script("r", SimulatedFault(kind=FaultKind.ERROR, status=429, code="slow_down", retry_after=7))
    status, headers, body = await ask(provider)
    assert (status, headers) == (429, {"retry-after": "7"})
    assert json.loads(body)["error"]["code"] == "slow_down"


async def test_faults_strike_in_order_and_then_the_route_is_healthy() -> None:
    provider = SimulatedProvider()
    provider.script("r", *(SimulatedFault(kind=FaultKind.ERROR, status=status) for status in (500, 503)))
    assert [(await ask(provider))[0] for _ in range(3)] == [500, 503, 200]


async def test_a_lasting_fault_follows_the_others_until_the_script_is_cleared() -> None:
    provider = SimulatedProvider()
    first, always = (SimulatedFault(kind=FaultKind.ERROR, status=status) for status in (500, 503))
    provider.script("r", first, always=always)
    assert [(await ask(provider))[0] for _ in range(3)] == [500, 503, 503]
    provider.script("r")
    assert (await ask(provider))[0] == 200


async def test_a_script_is_for_its_route_only() -> None:
    provider = SimulatedProvider()
    provider.script("other", always=SimulatedFault(kind=FaultKind.ERROR))
    assert (await ask(provider))[0] == 200


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [(FaultKind.UNREACHABLE, AttemptOutcome.UNAVAILABLE), (FaultKind.BREAK, AttemptOutcome.ERROR)],
)
async def test_a_connection_that_fails_is_told_on_entering(kind: FaultKind, outcome: AttemptOutcome) -> None:
    provider = SimulatedProvider()
    provider.script("r", SimulatedFault(kind=kind))
    with pytest.raises(ProviderFailure) as raised:
        await ask(provider)
    assert raised.value.outcome is outcome


async def test_a_stalling_route_is_silent_for_ever_and_can_be_left() -> None:
    provider = SimulatedProvider()
    provider.script("r", always=SimulatedFault(kind=FaultKind.STALL))
    assert await hangs(ask(provider))


@pytest.mark.parametrize("stream", [False, True])
async def test_a_break_midway_comes_after_half_of_the_answer(stream: bool) -> None:
    provider, heard = SimulatedProvider(), []
    provider.script("r", SimulatedFault(kind=FaultKind.BREAK_MIDWAY))

    async def listen() -> None:
        async with provider.send(route(), BODY, stream=stream) as upstream:
            assert upstream.status == 200
            async for piece in upstream.chunks():
                heard.append(piece)  # noqa: PERF401 - what came before the break is kept

    with pytest.raises(ProviderFailure, match="broke off"):
        await listen()
    whole = simulation.streamed(BODY)
    assert heard == (whole[: len(whole) // 2] if stream else [])


async def test_a_stall_midway_comes_after_half_of_the_answer() -> None:
    provider, heard = SimulatedProvider(), []
    provider.script("r", SimulatedFault(kind=FaultKind.STALL_MIDWAY))

    async def listen() -> None:
        async with provider.send(route(), BODY, stream=True) as upstream:
            async for piece in upstream.chunks():
                heard.append(piece)  # noqa: PERF401 - what came before the stall is kept

    assert await hangs(listen())
    whole = simulation.streamed(BODY)
    assert heard == whole[: len(whole) // 2]


@pytest.mark.parametrize("model", MODEL_FAULTS)
async def test_a_model_that_is_named_for_a_fault_always_has_it(model: str) -> None:
    provider, fault = SimulatedProvider(), MODEL_FAULTS[model]
    for _ in range(2):
        match fault.kind:
            case FaultKind.ERROR:
                status, headers, body = await ask(provider, model=model)
                assert (status, json.loads(body)["error"]["code"]) == (fault.status, fault.code)
                assert headers.get("retry-after") == (str(fault.retry_after) if fault.retry_after else None)
            case FaultKind.STALL | FaultKind.STALL_MIDWAY:
                assert await hangs(ask(provider, model=model))
            case _:
                with pytest.raises(ProviderFailure):
                    await ask(provider, model=model)


def test_every_kind_of_fault_has_a_model() -> None:
    assert {fault.kind for fault in MODEL_FAULTS.values()} == set(FaultKind)


@pytest.mark.parametrize("stream", [False, True])
async def test_what_it_cannot_answer_it_refuses_as_a_real_provider_does(stream: bool) -> None:
    wrong = json.dumps(json.loads(BODY) | {"n": "2"}).encode()
    status, headers, body = await ask(SimulatedProvider(), body=wrong, stream=stream)
    assert (status, headers) == (400, {})
    assert json.loads(body)["error"] == {
        "message": "Invalid type for 'n': expected an integer, but got a string instead.",
        "type": "invalid_request_error",
        "param": "n",
        "code": "invalid_type",
    }


def test_providers_are_made_by_kind_and_kept_by_name() -> None:
    made = make_providers([ProviderSettings(name="sim", kind="simulated")])
    assert isinstance(made["sim"], SimulatedProvider)
    assert set(APIS) == {"anthropic", "openai", "simulated"}
