"""One ASGI call against a scripted server: bodies, disconnects, and who wins a race between them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from tests.server.fakes import LIMIT, until

from flatfee.receipt import Receipt
from flatfee.server import call as module
from flatfee.server.call import Call, Message
from flatfee.server.faults import CallerGone, Fault
from flatfee.wire import ErrorCode

GONE: Message = {"type": "http.disconnect"}


def part(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


class Server:
    """What an ASGI server does for one request: it hands out ``messages`` and then waits for ``gone``."""

    def __init__(self, *messages: Message, headers: Iterable[tuple[bytes, bytes]] = (), query: bytes = b"") -> None:
        self.messages = list(messages)
        self.gone = asyncio.Event()
        self.listening = asyncio.Event()
        self.sent: list[Message] = []
        self.fails: BaseException | None = None
        scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": "/", "query_string": query}
        scope["headers"] = list(headers)
        self.call = Call(scope, self.receive, self.send, "req_1", 1_796_000_000.5)

    async def receive(self) -> Message:
        if self.messages:
            return self.messages.pop(0)
        self.listening.set()
        await self.gone.wait()
        return GONE

    async def serve_until_gone(self) -> None:
        """Serve for ever, but for the caller's leaving once it is listened to."""
        async with self.call.until_gone():
            await self.listening.wait()
            self.gone.set()
            await asyncio.Event().wait()

    async def send(self, message: Message) -> None:
        if self.fails is not None:
            raise self.fails
        self.sent.append(message)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


@pytest.fixture
def _watch_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WATCH_AFTER_SECONDS", 0.0)


watched = pytest.mark.usefixtures("_watch_at_once")


async def refused(server: Server, most: int = 10) -> ErrorCode:
    with pytest.raises(Fault) as caught:
        await server.call.body(most)
    return caught.value.code


async def test_a_body_in_one_piece_or_many_is_the_same() -> None:
    assert await Server(part(b"abc", more=False)).call.body(10) == b"abc"
    assert await Server(part(b"a"), part(b""), part(b"bc", more=False)).call.body(10) == b"abc"
    assert await Server({"type": "http.request"}).call.body(10) == b""


async def test_a_body_may_be_exactly_as_large_as_allowed() -> None:
    assert await Server(part(b"12345"), part(b"67890", more=False)).call.body(10) == b"1234567890"


@pytest.mark.parametrize("length", [b"11", b"9" * 5000])
async def test_a_length_that_is_too_large_is_refused_before_anything_is_read(length: bytes) -> None:
    server = Server(part(b"x", more=False), headers=[(b"content-length", length)])
    assert await refused(server) is ErrorCode.REQUEST_TOO_LARGE
    assert len(server.messages) == 1


async def test_a_body_without_length_is_refused_as_soon_as_it_is_too_large() -> None:
    server = Server(part(b"123456"), part(b"123456"), part(b"never read"))
    assert await refused(server) is ErrorCode.REQUEST_TOO_LARGE
    assert len(server.messages) == 1


async def test_an_encoded_body_is_refused() -> None:
    assert await refused(Server(headers=[(b"content-encoding", b"gzip")])) is ErrorCode.UNSUPPORTED_ENCODING
    plain = Server(part(b"x", more=False), headers=[(b"content-encoding", b"identity")])
    assert await plain.call.body(10) == b"x"


@pytest.mark.parametrize("messages", [[], [part(b"a")]], ids=["at all", "to its end"])
async def test_a_body_that_does_not_come_is_not_waited_for(
    messages: list[Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BODY_SECONDS", 0.01)
    async with asyncio.timeout(LIMIT):
        assert await refused(Server(*messages)) is ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize("messages", [[GONE], [part(b"a"), GONE]], ids=["before", "within"])
async def test_a_caller_that_leaves_with_its_body_is_gone(messages: list[Message]) -> None:
    with pytest.raises(CallerGone):
        await Server(*messages).call.body(10)


async def test_a_response_carries_what_was_told_and_the_latest_of_it() -> None:
    server = Server()
    server.call.tell({"x-a": "1", "x-b": "1"})
    server.call.tell({"x-b": "gr\u00fc\u00df \u4e2d"})
    await server.call.respond(201, b"{}")
    start, body = server.sent
    headers = dict(start["headers"])
    assert start["status"] == 201
    assert headers[b"x-flatfee-request-id"] == headers[b"x-request-id"] == b"req_1"
    assert (headers[b"x-a"], headers[b"x-b"]) == (b"1", "gr\u00fc\u00df ?".encode("latin-1"))
    assert (headers[b"content-length"], body["body"]) == (b"2", b"{}")
    assert "more_body" not in body


async def test_an_error_before_the_start_is_a_response() -> None:
    server = Server()
    await server.call.fail(Fault(ErrorCode.RATE_LIMITED, "Slower.", retry_after=7))
    headers = dict(server.sent[0]["headers"])
    assert server.sent[0]["status"] == 429
    assert (headers[b"retry-after"], headers[b"x-should-retry"]) == (b"7", b"true")
    assert json.loads(server.body) == {
        "error": {"message": "Slower.", "type": "rate_limit_error", "param": None, "code": "rate_limited"},
        "flatfee": {"request_id": "req_1", "state": "refused", "created_at": "2026-11-30T00:53:20Z"},
    }


async def test_an_error_in_mid_stream_is_an_event_and_the_end_without_done() -> None:
    server = Server()
    await server.call.start_stream()
    await server.call.write(b"data: 1\n\n")
    server.call.receipt = Receipt(request_id="req_1", route="r")
    await server.call.fail(Fault(ErrorCode.PROVIDER_UNAVAILABLE, "Broke."))
    assert [message.get("more_body") for message in server.sent] == [None, True, False]
    event = server.sent[-1]["body"]
    assert event.startswith(b"data: ")
    assert event.endswith(b"}\n\n")
    told = json.loads(event.removeprefix(b"data: "))
    assert told["error"]["code"] == "provider_unavailable"
    assert told["flatfee"] == {"request_id": "req_1", "route": "r"}


async def test_an_error_before_the_head_has_gone_out_is_a_response_of_its_own() -> None:
    server = Server()
    server.fails = asyncio.CancelledError()  # as while an earlier answer on the connection is not taken
    with pytest.raises(asyncio.CancelledError):
        await server.call.start_stream()
    server.fails = None
    await server.call.fail(Fault(ErrorCode.GATEWAY_OVERLOADED, "Ends."))
    assert [message["type"] for message in server.sent] == ["http.response.start", "http.response.body"]
    assert server.sent[0]["status"] == 503
    assert json.loads(server.body)["error"]["code"] == "gateway_overloaded"


async def test_a_stream_is_neither_stored_nor_buffered_on_its_way() -> None:
    server = Server()
    await server.call.start_stream()
    await server.call.finish(b"x")
    headers = dict(server.sent[0]["headers"])
    assert headers[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert (headers[b"cache-control"], headers[b"x-accel-buffering"]) == (b"no-store", b"no")


@pytest.mark.parametrize("act", ["respond", "start_stream", "write", "finish"])
async def test_a_server_that_cannot_send_means_that_the_caller_left(act: str) -> None:
    server = Server()
    server.fails = ConnectionResetError()
    arguments: dict[str, tuple[Any, ...]] = {"respond": (200, b""), "write": (b"",)}
    with pytest.raises(CallerGone):
        await getattr(server.call, act)(*arguments.get(act, ()))


@watched
async def test_a_caller_that_leaves_ends_the_block() -> None:
    async with asyncio.timeout(LIMIT):
        with pytest.raises(CallerGone):
            await Server().serve_until_gone()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@watched
async def test_a_message_that_is_no_goodbye_does_not_end_the_block() -> None:
    server = Server(part(b"", more=False))
    async with server.call.until_gone():
        await until(lambda: not server.messages)
        await asyncio.sleep(0)


@watched
async def test_a_goodbye_after_the_block_cancels_nothing() -> None:
    server = Server()
    async with server.call.until_gone():
        await server.listening.wait()
    server.gone.set()
    for _ in range(10):
        await asyncio.sleep(0)


@watched
async def test_a_goodbye_in_the_blocks_last_step_is_either_told_or_forgotten() -> None:
    """Whatever step of the loop the goodbye falls on, the task is not cancelled after the block."""
    for step in range(12):
        server = Server()

        async def leave(server: Server = server, step: int = step) -> None:
            for _ in range(step):
                await asyncio.sleep(0)
            server.gone.set()

        async with asyncio.timeout(LIMIT):
            leaving = asyncio.create_task(leave())
            try:
                async with server.call.until_gone():
                    for _ in range(6):
                        await asyncio.sleep(0)
            except CallerGone:
                pass
            await leaving
            for _ in range(6):
                await asyncio.sleep(0)


@watched
async def test_another_cancellation_stays_one() -> None:
    server = Server()

    async def serve() -> None:
        async with server.call.until_gone():
            await asyncio.Event().wait()

    task = asyncio.create_task(serve())
    await server.listening.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@watched
async def test_a_goodbye_within_a_time_limit_is_no_timeout() -> None:
    with pytest.raises(CallerGone):
        async with asyncio.timeout(LIMIT):
            await Server().serve_until_gone()


async def test_a_short_request_is_not_watched() -> None:
    server = Server()
    server.gone.set()
    async with server.call.until_gone():
        await asyncio.sleep(0)


class Telling(Server):
    """A server that tells at once that the caller has left, as ours does."""

    def __init__(self, *, left: bool = False) -> None:
        super().__init__()
        self.left = left
        self.leave: Callable[[], object] = lambda: None
        self.call._scope["extensions"] = {module.WHEN_GONE: self.when_gone}

    def when_gone(self, call: Callable[[], object]) -> bool:
        self.leave = call
        return not self.left


async def test_a_caller_that_leaves_ends_the_block_at_once_where_the_server_tells() -> None:
    server = Telling()

    async def serve() -> None:
        async with server.call.until_gone():
            server.leave()
            await asyncio.Event().wait()

    async with asyncio.timeout(LIMIT):
        with pytest.raises(CallerGone):
            await serve()
    assert not server.listening.is_set()
    server.leave()
    await asyncio.sleep(0)


async def test_for_a_caller_that_has_left_no_block_begins() -> None:
    with pytest.raises(CallerGone):
        async with Telling(left=True).call.until_gone():
            pytest.fail("it began")
    await asyncio.sleep(0)


async def test_an_error_of_the_block_passes() -> None:
    with pytest.raises(ValueError, match="x"):
        async with Server().call.until_gone():
            raise ValueError("x")


async def test_the_last_of_a_query_parameter_counts() -> None:
    assert Server(query=b"a=1&a=2&b=%C3%BC&c").call.query == {"a": "2", "b": "\u00fc"}


async def test_a_query_of_many_parameters_is_refused() -> None:
    with pytest.raises(Fault, match="more than 20") as caught:
        _ = Server(query=b"&".join([b"a=1"] * 21)).call.query
    assert caught.value.code is ErrorCode.INVALID_REQUEST


async def test_headers_are_measured_and_counted_as_they_were_sent() -> None:
    call = Server(headers=[(b"a", b"12"), (b"a", b"3")]).call
    assert (call.header_bytes(), call.sent_twice([b"b", b"a"]), call.sent_twice([b"b"])) == (13, "a", None)
