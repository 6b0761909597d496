"""The handle on a gateway in a process of its own: start it, look into it and at it, end it.

``/proc`` tells of its memory; what it holds inside it tells itself. Linux only.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
_LIMIT: Final = 60.0
PLAN: Final[Mapping[str, Any]] = {
    "fair_use": 1 << 50,
    "concurrent_workflows": 10_000,
    "workflow_fanout": 10_000,
    "workflow_idle": 1.0,
}
"""A plan that limits nobody; a workflow's slot is free again after a second."""


@dataclass
class Watched:
    """A running gateway."""

    process: asyncio.subprocess.Process
    folder: Path
    port: int

    async def inside(self) -> dict[str, Any]:
        """Ask the gateway what it holds."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"?\n")
        return await line_of(self.process)

    def resident(self) -> int:
        """Return the memory that it has in use, in bytes."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def processor(self) -> float:
        """Return the processor time that it has used, in seconds."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger.db"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()


def child_environment() -> dict[str, str]:
    """Return the environment of a process that imports what this one does."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}


@asynccontextmanager
async def watched(
    folder: Path,
    *,
    upstreams: Mapping[str, str],
    routes: Sequence[Mapping[str, Any]],
    plan: Mapping[str, Any] = PLAN,
    server: Mapping[str, Any] | None = None,
    speed: float = 1,
    broken: Sequence[str] = (),
) -> AsyncGenerator[Watched, None]:
    """Run a gateway, its ledger and its log in ``folder``; ``speed`` is that of its circuits' clock.

    ``broken`` names ways of ``broken`` to break it in.
    """
    wish = {
        "folder": str(folder),
        "upstreams": dict(upstreams),
        "routes": list(routes),
        "plan": dict(plan),
        "server": dict(server or {}),
        "speed": speed,
        "broken": list(broken),
    }
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.faults.housed",
            json.dumps(wish),
            cwd=ROOT,
            env=child_environment(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    try:
        yield Watched(process, folder, (await line_of(process))["port"])
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(_LIMIT):
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def line_of(process: asyncio.subprocess.Process) -> dict[str, Any]:
    """Read the object that a process prints next."""
    assert process.stdout is not None
    async with asyncio.timeout(_LIMIT):
        line = await process.stdout.readline()
    assert line, "the process has ended; its log says why"
    told: dict[str, Any] = json.loads(line)
    return told
