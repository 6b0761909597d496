"""``kill -9``: a gateway dies at a chosen moment, another one opens its file, and nothing is lost or doubled.

The second gateway runs in this process with its clock set on by a lease and its grace: what the
dead one held must be free at its first sweep.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from tests.server.fakes import KEY, make_body, until
from tests.torture.ledgers import Rows, audit, file_rows, open_later
from tests.torture.results import Progress, Result, Violation
from tests.torture.victim import CAP, POINTS, USAGE, Provider, Reaper, settings

from flatfee.server.app import create_app
from flatfee.server.gateway import LEASE_SECONDS
from flatfee.server.housekeeping import SWEEP_SECONDS

ROOT: Final = Path(__file__).parents[2]
_LIMIT: Final = 60.0
_AT_ONCE: Final = 2
_LATER: Final = LEASE_SECONDS + SWEEP_SECONDS
_COST: Final = USAGE[0] + 4 * USAGE[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """One death: ``requests`` at once, half of them streamed, and the process ends at ``point``'s ``count``-th time."""

    point: str
    count: int = 1
    requests: int = 1
    stream: bool = True


def kills(deaths: Sequence[Kill], scenario: str) -> Result:
    """Die in each of these ways, and look at what is left each time."""
    progress = Progress(scenario, len(deaths))
    violations: list[Violation] = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for number, found in enumerate(pool.map(_one_death, deaths), 1):
            violations += found
            progress.at(number, len(violations))
    return Result(scenario=scenario, runs=len(deaths), violations=tuple(violations))


def _one_death(death: Kill) -> list[Violation]:
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = asyncio.run(_die(Path(folder), death))
        except Exception as error:
            found = [f"the run itself failed: {error!r}"]
    return [Violation(text=f"{death}: {text}") for text in found]


def at_every_point(rounds: int) -> list[Kill]:
    """One request, dead at each of the points, streamed and plain."""
    streamed = [Kill(point=point) for point in POINTS]
    plain = [Kill(point=point, stream=False) for point in POINTS if point != "in mid-stream"]
    return [*streamed, *plain] * rounds


def at_any_moment(rounds: int, seed: int = 1) -> list[Kill]:
    """Sixteen requests at once, dead at a moment that chance chooses."""
    rng = random.Random(seed)
    return [Kill(point="any", count=rng.randint(1, 130), requests=16) for _ in range(rounds)]


def _start(folder: Path, death: Kill) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.torture.victim", str(folder), death.point, str(death.count)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


async def _die(folder: Path, death: Kill) -> list[str]:
    child = _start(folder, death)
    try:
        assert child.stdout is not None
        line = await asyncio.wait_for(asyncio.to_thread(child.stdout.readline), _LIMIT)
        seen = await _ask(json.loads(line)["port"], death)
        if death.point == "any":
            child.kill()  # it may have got through all its moments
        status = await asyncio.to_thread(child.wait, _LIMIT)
    finally:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()
    if status != -9:
        return [f"it did not die, it ended with {status}"]
    return await _look(folder, seen)


async def _ask(port: int, death: Kill) -> list[dict[str, Any]]:
    """Send the requests; return the receipts that were seen before the end."""
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", headers={"authorization": f"Bearer {KEY}"}, timeout=_LIMIT, trust_env=False
    ) as client:
        seen = await asyncio.gather(*(_one(client, number, death) for number in range(death.requests)))
    return [receipt for receipt in seen if receipt is not None]


async def _one(client: httpx.AsyncClient, number: int, death: Kill) -> dict[str, Any] | None:
    stream = death.stream if death.requests == 1 else number % 2 == 0
    headers = {"x-flatfee-workflow": f"run-{number % 5}"} if number % 3 else {}
    body = make_body(stream=stream, max_completion_tokens=20)
    got = b""
    try:
        async with client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as response:
            async for piece in response.aiter_bytes():
                got += piece
    except httpx.HTTPError:
        pass
    return _receipt_in(got)


def _receipt_in(got: bytes) -> dict[str, Any] | None:
    for part in got.split(b"\n\n") if got.startswith(b"data: ") else [got]:
        try:
            answer = json.loads(part.removeprefix(b"data: "))
        except ValueError:
            continue
        if "flatfee" in answer:
            receipt: dict[str, Any] = answer["flatfee"]
            return receipt
    return None


async def _look(folder: Path, seen: Sequence[dict[str, Any]]) -> list[str]:
    """Open the file again, later, and compare it with what was bought and what was shown."""
    path, ledger = folder / "bought", folder / "ledger.db"
    bought = path.read_text().split() if path.exists() else []
    before = file_rows(ledger)
    found = [f"right after the end: {text}" for text in audit(before)]
    unmarked = [each for each in bought if each in before.tickets and not before.tickets[each].dispatched]
    found += [f"{each} was bought, and not marked before" for each in unmarked]
    found += await _serve_again(folder)
    rows = file_rows(ledger)
    found += audit(rows)
    found += [f"{each} still holds units" for each in rows.tickets]
    found += [f"{each} was bought, and has no receipt" for each in bought if each not in rows.receipts]
    found += [f"{each} was bought twice" for each in set(bought) if bought.count(each) > 1]
    found += [f"{each} is gone" for each in before.tickets if each not in rows.receipts]
    found += [f"{each} changed" for each, kept in before.receipts.items() if rows.receipts.get(each) != kept]
    found += _charges(before, rows)
    for receipt in seen:
        kept = rows.receipts.get(receipt["request_id"])
        if receipt["state"] != "estimated" and (kept is None or kept.shown != receipt):
            found.append(f"the caller saw {receipt}, and {kept} is kept")
    return found


def _charges(before: Rows, rows: Rows) -> list[str]:
    found = []
    for each, kept in rows.receipts.items():
        ticket = before.tickets.get(each)
        if ticket is None:
            expected = ("settled", _COST)
        else:
            expected = ("estimated", ticket.units) if ticket.dispatched else ("refused", 0)
        if (kept.shown["state"], kept.net) != expected:
            found.append(f"{each} is {kept.shown['state']} at {kept.net}, not {expected}")
    return found


async def _serve_again(folder: Path) -> list[str]:
    """Start a gateway on the file, once the dead one's leases have run out; see that it serves, and what is free."""
    store = open_later(folder / "ledger.db", _LATER)
    app = create_app(settings(), store=store, providers={"fake": Provider(folder / "again", Reaper("never", 1))})
    found: list[str] = []
    started = time.monotonic()
    async with app.running():
        await until(lambda: not file_rows(folder / "ledger.db").tickets or time.monotonic() - started > 5)
        transport = httpx.ASGITransport(app)
        headers = {"authorization": f"Bearer {KEY}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers) as client:
            usage = (await client.get("/v1/usage")).json()
            answer = await client.post("/v1/chat/completions", json=make_body(max_completion_tokens=20))
        if usage["workflows"]["active"] or usage["fair_use"]["pending"]:
            found.append(f"after its lease and grace, the dead process still holds {usage}")
        if answer.status_code != 200 or answer.json()["flatfee"]["state"] != "settled":
            found.append(f"the next gateway answers {answer.status_code}: {answer.text[:200]}")
        if usage["fair_use"]["used"] > CAP:
            found.append(f"more is used than there is: {usage}")
    return found
