"""Workers hand each other kept answers and the health of their routes, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from flatfee.receipt import Attempt
from flatfee.server import peers
from flatfee.server.health import Health
from flatfee.server.kept import KeptAnswer
from flatfee.server.peers import HEALTH, NOTHING, Held, RoutesHealth, answering_peers, ask_health, ask_peer
from flatfee.server.worker import ALONE, Worker

ANSWER = KeptAnswer(((b"content-type", b"text/event-stream"),), b"data: \xff\n\n" * 50_000, streamed=True)


@pytest.fixture
def workers() -> Iterator[tuple[Worker, Worker]]:
    with TemporaryDirectory(prefix="ff-") as meeting:  # a socket's path must be short
        yield Worker(0, 2, Path(meeting)), Worker(1, 2, Path(meeting))


def look(request_id: str) -> Held:
    return Held.of(ANSWER, running=False) if request_id == "req_1" else Held.of(None, running=request_id == "req_2")


def routes_health(question: str) -> RoutesHealth:
    assert question == HEALTH
    health = Health()
    health.failed("a", 0.0, 0, leave_for=7.5)
    health.noted("a", Attempt(route="a", outcome="ok", status=200, duration_ms=7, first_token_ms=3), 1.25)
    health.noted("a", Attempt(route="a", outcome="rate_limited", status=429, duration_ms=2), 2.5)
    return {"a": health.report("a", 0.0), "b": health.report("b", 0.0)}


async def test_the_health_of_the_routes_comes_over_whole(workers: tuple[Worker, Worker]) -> None:
    async with answering_peers(workers[0], routes_health):
        assert await ask_health(workers[1], 0) == routes_health(HEALTH)


async def test_a_worker_that_is_gone_tells_no_health(workers: tuple[Worker, Worker]) -> None:
    assert await ask_health(workers[1], 0) is None


async def test_what_is_no_health_is_not_taken_for_it(
    workers: tuple[Worker, Worker], caplog: pytest.LogCaptureFixture
) -> None:
    async with answering_peers(workers[0], look):
        assert await ask_health(workers[1], 0) is None
    assert "peer.silent" in caplog.messages


async def test_what_is_nested_too_deeply_is_no_answer(
    workers: tuple[Worker, Worker], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("msgspec.msgpack.encode", lambda _: b"\x81\xa1x" + b"\x91" * 100_000)
    async with answering_peers(workers[0], look):
        assert await ask_peer(workers[1], "0", "req_1") == NOTHING
    assert "peer.silent" in caplog.messages


async def test_an_answer_comes_over_whole(workers: tuple[Worker, Worker]) -> None:
    async with answering_peers(workers[0], look):
        held = await ask_peer(workers[1], "0", "req_1")
    assert (held.answer, held.running) == (ANSWER, False)


async def test_a_request_that_runs_there_and_one_that_nobody_knows_are_told_apart(
    workers: tuple[Worker, Worker],
) -> None:
    async with answering_peers(workers[0], look):
        assert await ask_peer(workers[1], "0", "req_2") == Held(running=True)
        assert await ask_peer(workers[1], "0", "req_3") == NOTHING


async def test_a_worker_that_is_gone_says_nothing(workers: tuple[Worker, Worker]) -> None:
    assert await ask_peer(workers[1], "0", "req_1") == NOTHING


async def test_a_worker_takes_the_place_of_one_that_died(workers: tuple[Worker, Worker]) -> None:
    async with answering_peers(workers[0], lambda _: NOTHING), answering_peers(workers[0], look):
        assert (await ask_peer(workers[1], "0", "req_1")).answer == ANSWER


@pytest.mark.parametrize("holder", ["", "../0", "0/../1", "x", "-1"])
async def test_only_a_number_names_a_worker(workers: tuple[Worker, Worker], holder: str) -> None:
    async with answering_peers(workers[0], look):
        assert await ask_peer(workers[1], holder, "req_1") == NOTHING


async def test_alone_there_is_nobody_to_ask() -> None:
    async with answering_peers(ALONE, look):
        assert await ask_peer(ALONE, "0", "req_1") == NOTHING


async def test_one_that_does_not_answer_is_not_waited_for_for_ever(
    workers: tuple[Worker, Worker], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(peers, "_SECONDS", 0.05)
    meeting = workers[0].meeting
    assert meeting is not None

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_unix_server(say_nothing, peers._path(meeting, "0")):
        assert await ask_peer(workers[1], "0", "req_1") == NOTHING
        assert await ask_health(workers[1], 0) is None
    assert "peer.silent" in caplog.messages


async def test_what_is_no_question_is_let_go(workers: tuple[Worker, Worker], caplog: pytest.LogCaptureFixture) -> None:
    meeting = workers[0].meeting
    assert meeting is not None
    async with answering_peers(workers[0], look):
        for question in (b"x" * 500, b"\xff\n", b""):
            reader, writer = await asyncio.open_unix_connection(peers._path(meeting, "0"))
            writer.write(question)
            writer.write_eof()
            with suppress(ConnectionError):  # closed on what was not read
                assert await reader.read() == b""
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
    assert set(caplog.messages) == {"peer.unanswered"}
