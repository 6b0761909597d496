"""One request and its answer, between an app and a connection that only notes what is written."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from tests.server.fakes import LIMIT, until

from flatfee.server.call import Message
from flatfee.server.http.connection import GuardedConnection
from flatfee.server.http.exchange import Exchange


class Line:
    """What an exchange asks of its connection."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.departure = self.transport = self
        self.paused = False
        self.held = self.answers = self.reads = 0
        self.tasks: set[object] = set()
        self.crashes: list[Exception] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return False

    def holds(self, size: int) -> None:
        self.held += size

    def took(self, size: int) -> None:
        self.held -= size

    def read_on(self) -> None:
        self.reads += 1

    def answered(self, exchange: Exchange) -> None:
        self.answers += 1

    def crashed(self, exchange: Exchange, error: Exception) -> None:
        self.crashes.append(error)


def exchange(line: Line, **how: bool) -> Exchange:
    said = {"without_body": False, "old": False, "keep_alive": True, "expects": False} | how
    return Exchange(cast("GuardedConnection", line), **said)


def start(*headers: tuple[bytes, bytes], status: int = 200) -> Message:
    return {"type": "http.response.start", "status": status, "headers": headers}


def part(body: bytes, *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def say(each: Exchange, *messages: Message) -> None:
    for message in messages:
        await each.send(message)


LENGTH = (b"content-length", b"2")


async def test_a_plain_answer_leaves_as_one_write() -> None:
    line = Line()
    await say(exchange(line), start(LENGTH), part(b"{}"))
    assert line.written == [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"]
    assert line.answers == 1


async def test_a_stream_leaves_as_one_write_for_each_part_the_first_with_the_head_and_the_last_with_the_end() -> None:
    line = Line()
    await say(exchange(line), start(), part(b"one", more=True), part(b"two", more=True), part(b"three"))
    first, second, third = line.written
    assert first == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n"
    assert (second, third) == (b"3\r\ntwo\r\n", b"5\r\nthree\r\n0\r\n\r\n")


async def test_an_empty_part_sends_the_head_and_ends_nothing() -> None:
    line = Line()
    await say(exchange(line), start(), part(b"", more=True))
    assert line.written == [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"]
    assert line.answers == 0


@pytest.mark.parametrize(
    ("status", "how", "told"),
    [
        (204, {}, b""),
        (304, {}, b""),
        (200, {"without_body": True}, b""),
        (200, {"old": True, "keep_alive": False}, b"connection: close\r\n"),
    ],
    ids=["204", "304", "HEAD", "HTTP/1.0"],
)
async def test_what_has_no_chunks_is_not_told_to_have_them(status: int, how: dict[str, bool], told: bytes) -> None:
    line = Line()
    await say(exchange(line, **how), start(status=status), part(b""))
    assert line.written[0].endswith(b"\r\n" + told + b"\r\n")
    assert b"transfer-encoding" not in line.written[0]


async def test_http_1_0_gets_a_stream_as_it_is() -> None:
    line = Line()
    await say(exchange(line, old=True, keep_alive=False), start(), part(b"one", more=True), part(b"two"))
    assert b"".join(line.written).endswith(b"\r\n\r\nonetwo")


async def test_the_answer_to_head_has_a_length_and_no_body() -> None:
    line = Line()
    await say(exchange(line, without_body=True), start(LENGTH), part(b"{}"))
    assert line.written == [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"]


async def test_an_answer_that_is_a_connections_last_says_so_once() -> None:
    line = Line()
    each = exchange(line)
    await say(each, start(LENGTH, (b"connection", b"x, Close")), part(b"{}"))
    assert line.written[0].lower().count(b"close") == 1
    assert not each.keep_alive
    await say(exchange(line, keep_alive=False), start(LENGTH), part(b"{}"))
    assert b"connection: close\r\n" in line.written[1]


@pytest.mark.parametrize("body", [b"{} ", b"{"], ids=["longer", "shorter"])
async def test_a_body_is_as_long_as_was_said(body: bytes) -> None:
    with pytest.raises(RuntimeError, match="Content-Length"):
        await say(exchange(Line()), start(LENGTH), part(body))


@pytest.mark.parametrize(
    "messages", [[part(b"")], [start(), start()], [start(), part(b""), part(b"")]], ids=["no head", "two", "too late"]
)
async def test_an_app_that_speaks_out_of_turn_is_told(messages: list[Message]) -> None:
    with pytest.raises(RuntimeError, match="not the turn"):
        await say(exchange(Line()), *messages)


async def test_a_body_is_handed_on_in_the_parts_that_came_meanwhile() -> None:
    line = Line()
    each = exchange(line)
    each.take(b"a")
    each.take(b"b")
    assert await each.receive() == {"type": "http.request", "body": b"ab", "more_body": True}
    assert line.held == 0
    waiting = asyncio.create_task(each.receive())
    await until(lambda: line.reads)
    each.take(b"c")
    each.end_body()
    assert await waiting == {"type": "http.request", "body": b"c", "more_body": False}


async def test_two_that_wait_for_the_callers_leaving_both_hear_of_it() -> None:
    each = exchange(Line())
    each.end_body()
    assert (await each.receive())["more_body"] is False
    waiting = [asyncio.create_task(each.receive()) for _ in range(2)]
    await asyncio.sleep(0)
    told: list[str] = []
    assert each.when_gone(lambda: told.append("gone"))
    each.leave()
    async with asyncio.timeout(LIMIT):
        assert [message["type"] for message in await asyncio.gather(*waiting)] == ["http.disconnect"] * 2
    assert told == ["gone"]
    assert not each.when_gone(lambda: None)
    await each.send(start(status=999))  # nobody hears it


async def test_a_body_is_asked_for_once_and_only_by_who_wants_it() -> None:
    line = Line()
    each = exchange(line, expects=True)
    assert line.written == []
    each.take(b"x")
    await each.receive()
    each.take(b"x")
    await each.receive()
    assert line.written == [b"HTTP/1.1 100 Continue\r\n\r\n"]


@pytest.mark.parametrize("how", ["raises", "returns"])
async def test_an_app_that_does_not_answer_is_told_to_its_connection(how: str) -> None:
    async def app(*_: Any) -> None:
        if how == "raises":
            raise ZeroDivisionError

    line = Line()
    await exchange(line).run(app, {})
    assert [type(error) for error in line.crashes] == [ZeroDivisionError if how == "raises" else RuntimeError]
