"""Answers of a few bytes that unpack to gigabytes: what they may take of memory and of time."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import zlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
from tests.server.fakes_bombed import Cost
from tests.server.fakes_upstream import Writer, chunked, head, upstream

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory where Linux tells it"),
]

ROOT = Path(__file__).parents[3]
GIGABYTES = 10
LIMIT = 60.0
MEGABYTE = 1024
"""In the KiB in which memory is told."""


def bomb(unit: bytes) -> bytes:
    """Pack a text over and over; each time it is packed as a block that stands for itself."""
    packer = zlib.compressobj(9, wbits=-15)
    block = packer.compress(unit) + packer.flush(zlib.Z_FULL_FLUSH)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + block * (GIGABYTES * 10**9 // len(unit))


def drop(packed: bytes, *, stream: bool) -> Callable[[Writer], Awaitable[None]]:
    async def answer(writer: Writer) -> None:
        with suppress(ConnectionError):
            if stream:
                writer.write(head(None, "content-encoding: gzip") + chunked(packed) + b"0\r\n\r\n")
            else:
                writer.write(head(len(packed), "content-encoding: gzip") + packed)
            await writer.drain()

    return answer


async def cost_of(packed: bytes, *, stream: bool, seconds: float = LIMIT) -> Cost:
    """Have a process of its own ask for the answer, and return what it cost."""
    async with upstream(drop(packed, stream=stream)) as fake:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.server.fakes_bombed", str(fake.port), str(seconds)),
            "stream" if stream else "plain",
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(LIMIT):
                out, _ = await child.communicate()
        finally:
            with suppress(ProcessLookupError):
                child.kill()
    return Cost(**json.loads(out))


async def test_a_plain_answer_that_unpacks_to_gigabytes_fails_within_bounds() -> None:
    packed = bomb(b"\0" * 10_000_000)
    assert len(packed) < 11_000_000
    cost = await cost_of(packed, stream=False)
    assert cost.ended == "ProviderFailure: answered with more than 67108864 bytes"
    assert cost.grown < 100 * MEGABYTE
    assert cost.stalled < 1.0


async def test_a_streamed_answer_that_unpacks_to_gigabytes_fails_within_bounds() -> None:
    cost = await cost_of(bomb(b"\0" * 10_000_000), stream=True)
    assert cost.ended == "UnusableAnswer: has an event of more than 16777216 bytes"
    assert cost.grown < 50 * MEGABYTE
    assert cost.stalled < 1.0


async def test_gigabytes_of_comments_do_not_keep_time_limits_from_running() -> None:
    cost = await cost_of(bomb(b": \n\n" * 2_500_000), stream=True, seconds=1.0)
    assert cost.ended.startswith("TimeoutError")
    assert cost.grown < 50 * MEGABYTE
    assert cost.stalled < 1.0
