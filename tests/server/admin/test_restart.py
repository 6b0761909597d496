"""What an administrator did outlives the process, and reaches the others that serve from the same file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.server.admin.conftest import Clock, Office, with_operators_key
from tests.server.fakes import KEY, make_settings
from tests.server.fakes_gateway import running

from flatfee.server.store.sqlite import SqliteStore


@asynccontextmanager
async def gateway(path: Path, clock: Clock, **account: Any) -> AsyncGenerator[Office, None]:
    """A gateway over a file; ``account`` is what its configuration says of ``acme``."""
    settings = with_operators_key(make_settings())
    named = settings.accounts[0].model_copy(update=account)
    settings = settings.model_copy(update={"accounts": (named,)})
    async with running(settings, store=SqliteStore(path, clock=clock)) as rig:
        yield Office(rig, clock)


async def test_changes_keys_and_the_log_outlive_a_restart(tmp_path: Path) -> None:
    path, clock = tmp_path / "ledger.db", Clock()
    async with gateway(path, clock) as office:
        await office.post("/accounts", {"name": "beta", "plan": "pro"})
        await office.post("/accounts/beta/projects", {"name": "web", "receipts": "reduced"})
        owner = {"kind": "project", "account": "beta", "project": "web"}
        kept, ended = [await office.post("/keys", {**owner, "name": name}) for name in ("kept", "ended")]
        await office.delete(f"/keys/{ended['id']}")
        await office.patch("/accounts/acme", {"billing_day": 7})
        log = await office.log()
    async with gateway(path, clock) as office:
        assert [await office.ask(kept["secret"]), await office.ask(ended["secret"])] == [200, 401]
        assert await office.ask(KEY) == 200
        assert (await office.get("/accounts/acme"))["billing_day"] == 7
        assert (await office.get("/accounts/beta/projects"))["data"][0]["receipts"] == "reduced"
        assert await office.log() == log


async def test_an_edit_of_the_file_takes_effect_at_the_next_start_and_leaves_the_rest(tmp_path: Path) -> None:
    path, clock = tmp_path / "ledger.db", Clock()
    async with gateway(path, clock) as office:
        await office.patch("/accounts/acme", {"billing_day": 7})
    async with gateway(path, clock, billing="past_due") as office:
        account = await office.get("/accounts/acme")
    assert (account["billing"], account["billing_day"]) == ("past_due", 7)


async def test_a_key_revoked_at_one_process_is_out_at_the_others_with_the_next_request(tmp_path: Path) -> None:
    path, clock = tmp_path / "ledger.db", Clock()
    async with gateway(path, clock) as here, gateway(path, clock) as there:
        key = await here.post("/keys", {"kind": "team", "account": "acme", "name": "k"})
        assert await there.ask(key["secret"]) == 200
        await here.delete(f"/keys/{key['id']}")
        assert await there.ask(key["secret"]) == 401


async def test_changes_of_different_fields_at_once_are_all_kept(tmp_path: Path) -> None:
    path, clock = tmp_path / "ledger.db", Clock()
    async with gateway(path, clock) as here, gateway(path, clock) as there:
        key = await here.post("/keys", {"kind": "team", "account": "acme", "name": "k"})
        at = f"/keys/{key['id']}"
        await asyncio.gather(
            here.patch("/accounts/acme", {"billing": "past_due"}),
            there.patch("/accounts/acme", {"billing_day": 9}),
            here.patch(at, {"name": "renamed"}),
            there.patch(at, {"models": ["economy"]}),
            here.patch(at, {"expires_at": "2027-01-01T00:00:00Z"}),
        )
        account, key = await here.get("/accounts/acme"), await there.get(at)
    assert (account["billing"], account["billing_day"]) == ("past_due", 9)
    assert (key["name"], key["models"], key["expires_at"]) == ("renamed", ["economy"], "2027-01-01T00:00:00Z")
