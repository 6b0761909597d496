"""One gateway for each file of abuse, on the event loop that it has in service; what is left behind is looked for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest
from tests.server.abuse.wire import Bench
from tests.server.fakes import ScriptedProvider, until
from tests.server.fakes_gateway import on_loopback

_FILES = Path("/proc/self/fd")


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Sockets end in other ways on other event loops."""
    return "asyncio", {"use_uvloop": True}


def _open_files() -> int:
    return len(list(_FILES.iterdir())) if _FILES.is_dir() else 0


@pytest.fixture(scope="module")
async def bench(anyio_backend: object) -> AsyncGenerator[Bench, None]:
    """A gateway. Once its callers have left, it holds nothing of them."""
    provider = ScriptedProvider()
    async with on_loopback(provider=provider) as served:
        bench = Bench(served, provider)
        await bench.serves()
        for writer in served.writers:
            writer.transport.abort()
        await until(lambda: not bench.connections)
        files, tasks = _open_files(), len(asyncio.all_tasks())
        yield bench
        for writer in served.writers:
            writer.transport.abort()
        await until(lambda: not bench.connections and not served.server.server_state.tasks)
        await until(lambda: len(asyncio.all_tasks()) <= tasks and _open_files() <= files)
        assert (bench.gateway.active, bench.gateway.running) == (0, {})
        assert (await bench.get("/v1/usage"))["fair_use"]["pending"] == 0
        assert {held["in_flight"] for held in (await bench.get("/v1/workflows"))["data"]} <= {0}


@pytest.fixture(autouse=True)
def _quiet_log(caplog: pytest.LogCaptureFixture) -> Generator[None, None, None]:
    """Whatever is sent, the log has no traceback, no warning, and nothing of what was sent."""
    caplog.set_level(logging.DEBUG)
    yield
    records = caplog.get_records("call")
    assert [record for record in records if record.exc_info or record.levelno >= logging.WARNING] == []
    assert "canary" not in str([(record.getMessage(), record.__dict__) for record in records])
