"""Requests that chance takes apart, spoils and puts together: whatever comes of it, the gateway goes on."""

from __future__ import annotations

import asyncio
import random

import pytest
from tests.server.abuse.wire import BODY, CHUNKED, IN_CHUNKS, LIVE, MODELS, Bench, head, whole
from tests.server.fakes import until

pytestmark = pytest.mark.slow
"""It goes through many cases; ``make check`` has the time."""

STREAMED = whole(body=BODY[:-1] + b', "stream": true}')
H2C = (b"connection: Upgrade, HTTP2-Settings", b"upgrade: h2c", b"http2-settings: AAMAAABkAAQAAP__")
GOOD = [
    LIVE,
    head(first=MODELS),
    whole(),
    STREAMED,
    head(CHUNKED) + IN_CHUNKS,
    whole(*H2C),
    whole(b"expect: 100-continue"),
    whole(b"connection: close"),
    whole().replace(b"canary-key", b"canary-kex"),
    head(CHUNKED).replace(b"canary-key", b"canary-kex") + IN_CHUNKS,
]
SPOILT = [b"\r", b"\n", b"\0", b" ", b":", b"\xff", b"\r\n", b"\r\n\r\n", b"0", b"connection: close\r\n", b"x" * 50_000]
RUNS = 40
CONNECTIONS = 10


def spoil(raw: bytes, dice: random.Random) -> bytes:
    """Put something into a request, take something out, or leave it whole."""
    at = dice.randrange(len(raw))
    how = dice.randrange(4)
    if how == 0:
        return raw[:at] + dice.choice(SPOILT) + raw[at:]
    if how == 1:
        return raw[:at] + raw[at + dice.randrange(1, 20) :]
    if how == 2:
        return raw[:at] + bytes([raw[at] ^ 1 << dice.randrange(8)]) + raw[at + 1 :]
    return raw


async def abuse(bench: Bench, dice: random.Random) -> None:
    """Open a connection, send what chance says in the pieces that chance says, and end it somehow."""
    raw = b"".join(spoil(dice.choice(GOOD), dice) for _ in range(dice.randrange(1, 5)))
    caller = await bench.call()
    while raw:
        cut = dice.choice([len(raw), dice.randrange(1, len(raw) + 1)])
        await caller.send(raw[:cut])
        raw = raw[cut:]
        for _ in range(dice.randrange(4)):
            await asyncio.sleep(0)
    if dice.random() < 0.5:
        reading = asyncio.ensure_future(caller.reader.read(dice.choice([1, 100, 100_000])))
        await asyncio.wait({reading}, timeout=0.02)
        reading.cancel()
    match dice.randrange(3):
        case 0:
            caller.reset()
        case 1:
            caller.writer.close()
        case _ if not caller.writer.is_closing():
            caller.writer.write_eof()


@pytest.mark.parametrize("seed", range(RUNS))
async def test_chance_leaves_nothing_behind(bench: Bench, seed: int) -> None:
    dice = random.Random(seed)
    before = set(bench.connections)
    await asyncio.gather(*(abuse(bench, dice) for _ in range(CONNECTIONS)))
    for writer in bench.served.writers:
        writer.transport.abort()
    bench.served.writers.clear()
    await until(lambda: bench.connections <= before)
    await bench.at_rest()
    await bench.serves()
