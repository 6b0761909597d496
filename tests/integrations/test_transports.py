"""Transports for both HTTP libraries: what they find, and what they leave alone."""

from __future__ import annotations

import gzip
import importlib
import inspect
import json
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from typing import Any

import pytest

from flatfee import ConfigurationError, Receipt, receipts, wire
from flatfee.client.capture import KEPT_BYTES
from flatfee.integrations import transport

from .conftest import DONE, FAILED, HEADERS, SETTLED, completion, event


class Client:
    """A client of either library and kind, over a transport of ours around one that answers from memory."""

    def __init__(self, library: str, kind: str) -> None:
        self.library = importlib.import_module(library)
        self.ours = importlib.import_module(f"flatfee.integrations.{library}")
        self.kind = kind
        self.heard: list[Receipt] = []
        self.hear: Any = self.heard.append

    def response(self, *pieces: bytes, headers: dict[str, str] | None = None, status: int = 200) -> Any:
        body = type("Pieces", (Pieces, self.library.SyncByteStream, self.library.AsyncByteStream), {})(pieces)
        return self.library.Response(status, headers=HEADERS if headers is None else headers, stream=body)

    async def get(self, response: Any, *, read: int | None = None) -> tuple[Any, bytes]:
        """Return the response, closed, and what was read of it: everything, or ``read`` pieces."""
        mock = self.library.MockTransport(lambda _: response)
        if self.kind == "sync":
            with self.library.Client(transport=self.ours.ReceiptTransport(mock, on_receipt=self.hear)) as client:
                with client.stream("GET", "http://gateway.test/") as found:
                    pieces = list(islice(found.iter_bytes() if found.is_closed else found.iter_raw(), read))
                return found, b"".join(pieces)
        ours = self.ours.AsyncReceiptTransport(mock, on_receipt=self.hear)
        async with self.library.AsyncClient(transport=ours) as client:
            async with client.stream("GET", "http://gateway.test/") as found:
                pieces = []
                async for piece in found.aiter_bytes() if found.is_closed else found.aiter_raw():
                    pieces.append(piece)
                    if len(pieces) == read:
                        break
            return found, b"".join(pieces)


class Pieces:
    """A body in pieces."""

    def __init__(self, pieces: tuple[bytes, ...]) -> None:
        self.pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        yield from self.pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece


@pytest.fixture(params=["httpx", "httpx2"])
def library(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["sync", "async"])
def client(library: str, request: pytest.FixtureRequest) -> Client:
    return Client(library, request.param)


def plain(text: str = "hi", **extra: Any) -> bytes:
    return json.dumps(completion(text, **extra), separators=(",", ":")).encode()


async def test_a_plain_answer_tells_its_receipt_in_headers_and_body(client: Client) -> None:
    body = plain(flatfee=SETTLED)
    with receipts() as run:
        response, read = await client.get(client.response(body[:50], body[50:]))
    receipt = response.extensions["flatfee_receipt"]
    assert read == body, "bytes pass untouched"
    assert (receipt.state, receipt.reason, receipt.fair_use.charged) == ("settled", "default", 7)
    assert client.heard == [receipt]
    assert run.receipts == (receipt,)


@pytest.mark.pain(13)
async def test_a_stream_tells_it_at_its_end_whatever_its_length(client: Client) -> None:
    """Pain: headers are lost on streams, and on structured ones in particular."""
    events = [event("x" * 1000) for _ in range(3 * KEPT_BYTES // 1000)]
    pieces = [*events, event("", "stop", flatfee=SETTLED), DONE]
    response, read = await client.get(client.response(*pieces))
    assert read == b"".join(pieces)
    assert response.extensions["flatfee_receipt"].state == "settled"


async def test_an_error_tells_its_attempts(client: Client) -> None:
    body = json.dumps(wire.error_body("fallback_exhausted", "No.", receipt=FAILED)).encode()
    await client.get(client.response(body, status=503))
    assert [attempt.route for attempt in client.heard[0].attempts or ()] == ["a", "b"]


async def test_a_reader_who_leaves_early_knows_what_the_headers_told(client: Client) -> None:
    response, read = await client.get(client.response(event("a"), event("b", "stop", flatfee=SETTLED)), read=1)
    assert read == event("a")
    assert [(receipt.lane, receipt.state) for receipt in client.heard] == [("premium", "in_flight")]
    assert response.extensions["flatfee_receipt"] == client.heard[0]


async def test_a_compressed_body_passes_unread_and_the_headers_tell(client: Client) -> None:
    body = gzip.compress(plain(flatfee=SETTLED))
    response, read = await client.get(client.response(body, headers={**HEADERS, "content-encoding": "gzip"}))
    assert read == body
    assert response.extensions["flatfee_receipt"].state == "in_flight"
    assert response.extensions["flatfee_receipt"].lane == "premium"


async def test_an_encoded_body_is_not_taken_for_text(client: Client) -> None:
    await client.get(client.response(plain(flatfee=SETTLED), headers={**HEADERS, "content-encoding": "secret"}))
    assert [receipt.state for receipt in client.heard] == ["in_flight"]


async def test_the_last_receipt_is_the_gateways(client: Client) -> None:
    await client.get(client.response(plain(service={"flatfee": {"lane": "fake"}}, flatfee=SETTLED)))
    assert [receipt.lane for receipt in client.heard] == ["premium"]


async def test_the_listener_hears_once_of_a_body_that_is_closed_twice(client: Client) -> None:
    response, _ = await client.get(client.response(plain(flatfee=SETTLED)))
    if client.kind == "sync":
        response.stream.close()
    else:
        await response.stream.aclose()
    assert len(client.heard) == 1


@pytest.mark.parametrize("text", ['"flatfee":{"lane":"fake"}', '\\"flatfee\\":{"lane":"fake"}'])
async def test_text_that_looks_like_a_receipt_is_none(client: Client, text: str) -> None:
    await client.get(client.response(plain(text)))
    assert [receipt.lane for receipt in client.heard] == ["premium"]


@pytest.mark.parametrize(
    "tail", [b'{"flatfee":', b'{"flatfee":7}', b'{"flatfee":{"lane":"pre', b'{"flatfee":\xff}', b"["]
)
async def test_a_broken_receipt_leaves_what_the_headers_told(client: Client, tail: bytes) -> None:
    await client.get(client.response(tail))
    assert [receipt.lane for receipt in client.heard] == ["premium"]


async def test_what_comes_from_elsewhere_is_left_alone(client: Client) -> None:
    response, read = await client.get(client.response(plain(), headers={}))
    assert read == plain()
    assert "flatfee_receipt" not in response.extensions
    assert client.heard == []


async def test_a_response_without_a_route_is_not_in_flight(client: Client) -> None:
    await client.get(client.response(b"{}", headers={"x-flatfee-request-id": "req_1"}))
    assert [(receipt.request_id, receipt.state) for receipt in client.heard] == [("req_1", None)]


async def test_a_response_made_in_memory_is_looked_at_as_well(client: Client) -> None:
    made = client.library.Response(200, headers=HEADERS, json=completion(flatfee=SETTLED))
    await client.get(made)
    assert [receipt.state for receipt in client.heard] == ["settled"]


async def test_it_keeps_little_of_a_long_body(client: Client) -> None:
    made = client.response(*[b"x" * 10_000] * 100)
    passages: list[Any] = []
    original = transport.Passage.end

    def end(self: Any) -> None:
        passages.append(sum(map(len, self.capture._pieces)))
        original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transport.Passage, "end", end)
        await client.get(made)
    assert max(passages) <= 2 * KEPT_BYTES


async def test_without_a_transport_it_makes_its_own_and_closes_what_it_wraps(library: str) -> None:
    ours = importlib.import_module(f"flatfee.integrations.{library}")
    http = importlib.import_module(library)
    assert isinstance(ours.ReceiptTransport()._wrapped, http.HTTPTransport)
    assert isinstance(ours.AsyncReceiptTransport()._wrapped, http.AsyncHTTPTransport)
    closed: list[str] = []

    class Sync(http.MockTransport):  # type: ignore[misc, name-defined]  # of either library
        def close(self) -> None:
            closed.append("sync")

        async def aclose(self) -> None:
            closed.append("async")

    with http.Client(transport=ours.ReceiptTransport(Sync(lambda _: http.Response(204)))) as client:
        client.get("http://gateway.test/")
    async with http.AsyncClient(transport=ours.AsyncReceiptTransport(Sync(lambda _: http.Response(204)))) as aclient:
        await aclient.get("http://gateway.test/")
    assert closed == ["sync", "async"]
    assert not inspect.iscoroutinefunction(ours.ReceiptTransport.handle_request)


async def test_a_failing_function_costs_nobody_an_answer(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    """The answer is paid for by then, and what read it might ask for it again."""

    def fail(_: Receipt) -> None:
        raise ValueError("a secret")

    client.hear = fail
    _, read = await client.get(client.response(plain(flatfee=SETTLED)))
    assert json.loads(read)["flatfee"] == SETTLED
    assert [
        record.getMessage().partition(" at=")[0] for record in caplog.records if record.name == "flatfee.client"
    ] == ["client.callback_failed callback=on_receipt error=ValueError"]


def test_a_function_that_must_be_awaited_is_refused(library: str) -> None:
    async def hear(_: Receipt) -> None:
        """Hear."""

    ours = importlib.import_module(f"flatfee.integrations.{library}")
    for transport_of_ours in (ours.ReceiptTransport, ours.AsyncReceiptTransport):
        with pytest.raises(ConfigurationError, match="coroutine function"):
            transport_of_ours(on_receipt=hear)
