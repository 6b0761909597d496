"""Other protocols on the port, and requests that ask for one."""

from __future__ import annotations

import json
from collections import deque

import pytest
from tests.server.abuse.wire import BODY, CHUNKED, IN_CHUNKS, LIVE, MODELS, Bench, Case, head, ok, whole
from tests.server.fakes import ANSWER, STREAM, streamed

ASK_OLD = b"POST /v1/chat/completions HTTP/1.0"
STREAMED = BODY[:-1] + b', "stream": true}'
HTTP_2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
TLS = bytes.fromhex("16030100c8010000c40303") + b"\0" * 200
WEBSOCKET = (b"connection: keep-alive, Upgrade", b"upgrade: websocket", b"sec-websocket-version: 13")
H2C = (b"connection: Upgrade, HTTP2-Settings", b"upgrade: h2c", b"http2-settings: AAMAAABkAAQAAP__")

OTHERS = [
    Case("HTTP/2", HTTP_2),
    Case("TLS", TLS),
    Case("SSH", b"SSH-2.0-OpenSSH_9.9\r\n"),
    Case("SMTP", b"EHLO canary.example\r\n"),
    Case("zeros", b"\0" * 1000),
    Case("a proxy's own line", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + LIVE),
]
WISHES = [
    ok("a websocket", head(*WEBSOCKET, first=MODELS)),
    ok("HTTP/2 in clear text", head(*H2C, first=MODELS)),
    ok("HTTP/2 in clear text, with a body", whole(*H2C)),
    ok("HTTP/2 in clear text, with a body in chunks", head(*H2C, CHUNKED) + IN_CHUNKS),
    ok("HTTP/2 in clear text, and then no more", whole(*H2C, b"connection: Close"), closes=True),
    ok("HTTP/2 in clear text, from HTTP/1.0", head(*H2C, first=b"GET /v1/models HTTP/1.0", host=None), closes=True),
    ok("HTTP/2 in clear text, and then no more, in one line", whole(H2C[0] + b", close", *H2C[1:]), closes=True),
    ok("an expectation that nobody knows", whole(b"expect: evil")),
    Case("HTTP/2 in clear text, and a length too many", whole(*H2C, b"content-length: 5")),
    Case("HTTP/2 in clear text, and no host", whole(*H2C).replace(b"host: gateway\r\n", b"")),
]


@pytest.mark.parametrize("case", OTHERS + WISHES, ids=str)
async def test_one_protocol_is_spoken(bench: Bench, case: Case) -> None:
    await bench.try_out(case)


async def test_the_body_of_a_request_that_asks_for_another_protocol_is_no_request(bench: Bench) -> None:
    caller = await bench.call(whole(*H2C, body=LIVE), LIVE)
    assert [(await caller.answer()).status for _ in range(2)] == [400, 200]


@pytest.mark.parametrize("at", range(1, len(whole(*H2C)), 29))
async def test_it_may_come_in_pieces(bench: Bench, at: int) -> None:
    raw = whole(*H2C)
    caller = await bench.call(raw[:at])
    await bench.serves()
    await caller.send(raw[at:] + LIVE)
    assert [(await caller.answer()).status for _ in range(2)] == [200, 200]
    assert bench.provider.asked[-1][1]["messages"] == json.loads(BODY)["messages"]


@pytest.mark.parametrize("expects", [b"a: b", b"expect: 100-continue"])
async def test_http_1_0_is_answered_in_its_own_way(bench: Bench, expects: bytes) -> None:
    """It knows neither chunks nor an answer before the answer."""
    bench.provider.scripts["first"] = deque([streamed(*STREAM)])
    caller = await bench.call(whole(expects, body=STREAMED, first=ASK_OLD))
    lines, _, body = (await caller.rest()).partition(b"\r\n\r\n")
    bench.provider.scripts.clear()
    assert lines.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in lines
    assert b"transfer-encoding" not in lines
    *events, last = body.split(b"\n\n")
    assert all(event.startswith(b"data: ") for event in events)
    assert (events[-1], last) == (b"data: [DONE]", b"")


async def test_a_plain_answer_to_http_1_0_has_its_length(bench: Bench) -> None:
    answer = await (await bench.call(whole(first=ASK_OLD))).answer()
    assert ANSWER.encode() in answer.body
    assert answer.headers["content-length"] == str(len(answer.body))
