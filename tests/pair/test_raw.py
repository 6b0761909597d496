"""Responses with their headers, from a real gateway over loopback."""

from __future__ import annotations

import pytest

from flatfee import AsyncClient, Client, NotFoundError, Receipt, ReceiptState
from flatfee.cli.demo.gateway import DemoGateway

from .conftest import HELLO


def settled(receipt: Receipt | None) -> bool:
    return receipt is not None and receipt.state is ReceiptState.SETTLED and receipt.lane == "premium"


def test_a_raw_response_is_the_plain_answer_and_its_headers(client: Client) -> None:
    response = client.chat.completions.with_raw_response.create(model="premium", messages=HELLO)
    completion = response.parse()
    assert completion.choices[0].message.content
    assert settled(response.receipt)
    assert completion._request_id == response.request_id == response.headers["x-request-id"]
    assert response.json()["flatfee"]["request_id"] == response.request_id
    assert response.elapsed.total_seconds() > 0
    assert client.receipts.with_raw_response.retrieve(response.request_id or "").parse().lane == "premium"
    with pytest.raises(NotFoundError):
        client.models.with_raw_response.retrieve("no-such-model")


def test_a_raw_stream_tells_its_lane_before_its_first_token(client: Client) -> None:
    response = client.chat.completions.with_raw_response.create(model="premium", messages=HELLO, stream=True)
    assert response.headers["x-flatfee-lane"] == "premium"
    with response.parse() as stream:
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert settled(response.receipt)


def test_a_streaming_response_gives_its_connection_back(client: Client) -> None:
    ports = set()
    for _ in range(3):
        with client.chat.completions.with_streaming_response.create(model="premium", messages=HELLO) as response:
            ports.add(response.http_response.extensions["network_stream"].get_extra_info("client_addr"))
            assert settled(response.parse().receipt)
    assert len(ports) == 1


async def test_so_it_is_for_coroutines(gateway: DemoGateway) -> None:
    async with AsyncClient(api_key=gateway.key, base_url=gateway.url) as client:
        response = await client.chat.completions.with_raw_response.create(model="premium", messages=HELLO)
        assert settled(response.parse().receipt)
        streaming = client.chat.completions.with_streaming_response
        async with streaming.create(model="premium", messages=HELLO, stream=True) as unread:
            lines = [line async for line in unread.iter_lines() if line]
        assert lines[-1] == "data: [DONE]"
        async with streaming.create(model="premium", messages=HELLO) as unread:
            assert settled((await unread.parse()).receipt)
