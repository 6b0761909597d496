"""A ticket is told before its commit. Where that commit fails, nobody is asked, and nothing is left of the request."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.server.fakes import ScriptedProvider
from tests.server.fakes_gateway import running

from flatfee.server.store.sqlite import SqliteStore


def _deny_commits(_action: int, name: str | None, *_: str | None) -> int:
    return sqlite3.SQLITE_DENY if name == "COMMIT" else sqlite3.SQLITE_OK


@contextmanager
def no_commits(store: SqliteStore) -> Generator[None]:
    connection = store._writer._connection
    connection.set_authorizer(_deny_commits)
    try:
        yield
    finally:
        connection.set_authorizer(None)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "headers", [{}, {"idempotency-key": "once"}, {"x-flatfee-workflow": "w"}], ids=["plain", "once", "workflow"]
)
async def test_a_ticket_that_is_lost_is_a_refusal(tmp_path: Path, headers: dict[str, str], stream: bool) -> None:
    store, provider = SqliteStore(tmp_path / "ledger.db"), ScriptedProvider()
    async with running(provider=provider, store=store) as rig:
        before = await rig.usage()
        with no_commits(store):
            response = await rig.ask(headers, stream=stream)
        told = response.json()
        assert (response.status_code, told["error"]["code"], told["flatfee"]["state"]) == (
            503,
            "store_unavailable",
            "refused",
        )
        assert provider.asked == []
        assert await rig.usage() == before
        again = await rig.ask(headers, stream=stream)
        assert again.status_code == 200
        assert len(provider.asked) == 1
        assert await store.audit_books() == []
