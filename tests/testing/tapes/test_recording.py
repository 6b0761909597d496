"""What is recorded of a provider is what it did, whoever reads its answer, and nothing else is changed by that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.server.fakes_upstream import BODY, a_route

from flatfee.server.configuration import parse_settings
from flatfee.server.providers.base import ProviderFailure, Upstream
from flatfee.server.settings import RouteSettings
from flatfee.testing.tapes import Redaction, Tapes
from flatfee.testing.tapes.drift import Drift, find_drift, questions
from flatfee.testing.tapes.recording import Recorder
from flatfee.testing.tapes.tape import Answer
from flatfee.wire import AttemptOutcome

STALE = ProviderFailure(AttemptOutcome.ERROR, "broke off: Closed", stale=True)
BROKEN = ProviderFailure(AttemptOutcome.ERROR, "broke off: Reset")
CONFIG = """
providers = [{name = "sim", kind = "simulated"}]
routes = [{name = "up", provider = "sim", model = "m", tier = "premium"}]
plans = [{name = "p", fair_use = 1}]
"""


class Fake:
    """A provider whose tries come to what it is told: an answer, or a failure before or in the middle of it."""

    def __init__(self, *tries: bytes | ProviderFailure, midway: ProviderFailure | None = None) -> None:
        self.tries = list(tries)
        self.midway = midway
        self.closed = 0

    @property
    def status(self) -> int:
        return 200

    @property
    def headers(self) -> Mapping[str, str]:
        return {"content-type": "application/json"}

    @asynccontextmanager
    async def send(self, route: RouteSettings, body: bytes, *, stream: bool) -> AsyncGenerator[Upstream, None]:
        told = self.tries.pop(0)
        if isinstance(told, ProviderFailure):
            raise told
        self.said = told
        yield self

    async def read(self) -> bytes:
        return b"".join([part async for part in self.chunks()])

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self.said
        if self.midway is not None:
            raise self.midway

    async def close(self) -> None:
        self.closed += 1


async def record(folder: Path, fake: Fake, *, chunks: bool = False) -> tuple[bytes, Recorder]:
    recorder = Recorder(folder, Redaction.of(), asyncio.get_running_loop().time)
    provider = recorder.around(fake)
    async with provider.send(a_route(), BODY, stream=False) as answer:
        assert (answer.status, answer.headers) == (fake.status, fake.headers)
        data = b"".join([part async for part in answer.chunks()]) if chunks else await answer.read()
    await provider.close()
    assert fake.closed == 1
    return data, recorder


def answers(folder: Path) -> list[Answer]:
    return [filed.tape.answer for filed in Tapes.load(folder).filed]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("chunks", [True, False])
async def test_what_is_read_is_recorded_however_it_is_read(tapes: Path, chunks: bool) -> None:
    data, recorder = await record(tapes, Fake(b'{"a":1}'), chunks=chunks)
    assert data == b'{"a":1}'
    (answer,) = answers(tapes)
    assert (answer.status, answer.body, answer.partial) == (200, {"a": 1}, False)
    assert [path.name for path in recorder.written] == ["0001-up-canary-prompt.json"]


@pytest.mark.parametrize("chunks", [True, False])
async def test_a_failure_in_the_middle_is_recorded(tapes: Path, chunks: bool) -> None:
    with pytest.raises(ProviderFailure) as caught:
        await record(tapes, Fake(b'{"a":1}', midway=BROKEN), chunks=chunks)
    assert caught.value is BROKEN
    (answer,) = answers(tapes)
    assert answer.failure is not None
    assert answer.failure.message == "broke off: Reset"


async def test_a_failure_before_an_answer_is_recorded(tapes: Path) -> None:
    with pytest.raises(ProviderFailure):
        await record(tapes, Fake(BROKEN))
    (answer,) = answers(tapes)
    assert (answer.status, answer.failure is not None) == (None, True)


async def test_what_the_reader_does_wrong_is_not_the_providers(tapes: Path) -> None:
    async def read_and_fail() -> None:
        recorder = Recorder(tapes, Redaction.of(), asyncio.get_running_loop().time)
        async with recorder.around(Fake(b'{"a":1}')).send(a_route(), BODY, stream=False) as answer:
            await answer.read()
            raise BROKEN

    with pytest.raises(ProviderFailure):
        await read_and_fail()
    assert [answer.failure for answer in answers(tapes)] == [None]


async def test_a_kept_connection_that_had_ended_is_no_exchange(tapes: Path) -> None:
    with pytest.raises(ProviderFailure):
        await record(tapes, Fake(STALE))
    assert names(tapes) == []


async def test_two_recordings_into_one_folder_leave_each_other_alone(tapes: Path) -> None:
    clock = asyncio.get_running_loop().time
    providers = [Recorder(tapes, Redaction.of(), clock).around(Fake(*[b"{}"] * 5)) for _ in range(2)]
    for provider in providers * 5:
        async with provider.send(a_route(), BODY, stream=False) as answer:
            await answer.read()
    assert [name[:4] for name in names(tapes)] == [f"{number:04}" for number in range(1, 11)]


async def test_a_comparison_asks_again_where_a_kept_connection_had_ended(tapes: Path) -> None:
    await record(tapes, Fake(b'{"a":1}'))
    settings = parse_settings(CONFIG, source="here", env={})
    asked, others = questions(Tapes.load(tapes).filed, settings, at_most=1)
    fake = Fake(STALE, b'{"a":2}')
    found = Drift.of(await find_drift(asked, settings, seconds=60, providers={"sim": fake}), others)
    assert (found.exit_code, fake.tries, fake.closed) == (0, [], 1)
