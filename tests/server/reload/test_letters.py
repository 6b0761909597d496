"""Letters between two processes, here of one: each question gets its answer, and nobody waits for who is gone."""

from __future__ import annotations

import asyncio
import pickle
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from tests.server.fakes import LIMIT, until

from flatfee.server.reload.changes import NotReloaded
from flatfee.server.reload.letters import Answer, Gone, Post, post_office
from flatfee.wire import ErrorCode


async def echo(question: object) -> object:
    return question


@asynccontextmanager
async def two(here: Answer = echo, there: Answer = echo) -> AsyncGenerator[tuple[Post, Post]]:
    ours, theirs = socket.socketpair()
    async with post_office(ours, here) as one, post_office(theirs, there) as other:
        yield one, other


async def test_both_sides_may_ask_and_answers_come_in_any_order() -> None:
    slow = asyncio.Event()

    async def answer(question: object) -> object:
        if question == "slow":
            await slow.wait()
        return f"{question}!"

    async with two(there=answer) as (one, other):
        first = asyncio.create_task(one.ask("slow"))
        assert await one.ask("quick") == "quick!"
        assert await other.ask(("a", 1)) == ("a", 1)
        slow.set()
        assert await first == "slow!"
        assert not one._open


async def test_a_letter_may_be_longer_than_what_a_socket_holds() -> None:
    async with two() as (one, _):
        assert await one.ask(b"x" * 5_000_000) == b"x" * 5_000_000


async def test_a_refusal_is_raised_where_it_was_asked() -> None:
    async def refuse(question: object) -> object:
        del question
        raise NotReloaded(ErrorCode.CONFLICT, ["one", "two"])

    async with two(there=refuse) as (one, _):
        with pytest.raises(NotReloaded) as refused:
            await one.ask("x")
    assert (refused.value.code, refused.value.problems) == (ErrorCode.CONFLICT, ("one", "two"))
    assert str(refused.value) == "one\ntwo"


async def test_who_fails_at_an_answer_says_so_without_what_was_said(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(question: object) -> object:
        raise ValueError(question)

    async with two(there=fail) as (one, _):
        with pytest.raises(NotReloaded, match=r"^It failed with ValueError\.$"):
            await one.ask("canary")
    assert "canary" not in caplog.text


async def test_a_question_to_who_is_gone_ends() -> None:
    ours, theirs = socket.socketpair()
    async with post_office(ours, echo) as one:
        waiting = asyncio.create_task(one.ask("x"))
        await until(lambda: one._open)
        theirs.close()
        async with asyncio.timeout(LIMIT):
            with pytest.raises(Gone):
                await waiting
            with pytest.raises(Gone):
                await one.ask("y")


async def test_a_letter_that_is_too_long_ends_the_talk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flatfee.server.reload.letters.MOST", 10)
    async with two() as (one, _):
        async with asyncio.timeout(LIMIT):
            with pytest.raises(Gone):
                await one.ask(b"x" * 100)


def test_a_refusal_survives_pickling() -> None:
    refused = NotReloaded(ErrorCode.INVALID_REQUEST, ["a"])
    again = pickle.loads(pickle.dumps(refused))
    assert (again.code, again.problems) == (refused.code, refused.problems)
