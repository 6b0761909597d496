"""Receipts of the past, made by hand, and what a replay says of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from flatfee.server.ids import request_id
from flatfee.server.replaying.engine import Played, Replay
from flatfee.server.replaying.past import AccountLine, Past, read_line
from flatfee.server.replaying.payers import Payers
from flatfee.server.settings import Settings

NOON = 1_793_534_400.0
"""1 November 2026, 12:00 UTC."""

ROUTES: Sequence[Mapping[str, Any]] = (
    {"name": "first", "tier": "premium", "priority": 1, "meter": {"input": 1.0, "output": 4.0}},
    {"name": "second", "tier": "premium", "priority": 2, "meter": {"input": 2.0, "output": 8.0}},
    {"name": "economy", "tier": "economy"},
)


def settings(
    routes: Sequence[Mapping[str, Any]] = ROUTES, policy: Mapping[str, Any] | None = None, **plan: Any
) -> Settings:
    """Return a configuration with one plan."""
    return Settings.model_validate(
        {
            "providers": [{"name": "p", "kind": "simulated"}],
            "routes": [{"provider": "p", "model": "m", **route} for route in routes],
            "plans": [{"name": "pro", "fair_use": 100_000, "output_reserve": 100, **plan}],
            "policy": policy or {},
        }
    )


def rfc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


def tried(route: str, outcome: str = "ok", status: int | None = 200, ms: int = 1000, **more: Any) -> dict[str, Any]:
    return {"route": route, "outcome": outcome, "status": status, "duration_ms": ms, **more}


def line(at: float = 0.0, *attempts: Mapping[str, Any], number: int = 0, **fields: Any) -> bytes:
    """Return the receipt of a request ``at`` seconds after noon; answered by ``first``, if nothing is said."""
    tries = attempts or (tried("first"),)
    ended = NOON + at + sum(each["duration_ms"] for each in tries) / 1000
    answered = tries[-1]["outcome"] == "ok"
    told: dict[str, Any] = {
        "account": "acme",
        "project": "ci",
        "request_id": request_id(NOON + at, lambda _: number),
        "lane": "premium",
        "reason": "requested",
        "state": "settled" if answered else "refused",
        "model_requested": "premium",
        "route": tries[-1]["route"] if answered else None,
        "fair_use": {"unit": "token", "charged": 140, "remaining": 99_860, "limit": 100_000},
        "usage": {"prompt_tokens": 100, "completion_tokens": 10} if answered else None,
        "attempts": list(tries),
        "created_at": rfc(NOON + at),
        "ended_at": rfc(ended),
        "facts": {"prompt_tokens": 90},
    }
    told |= fields
    return json.dumps({name: value for name, value in told.items() if value is not None}).encode()


def refused(at: float, code: str, number: int = 0, **fields: Any) -> bytes:
    """Return the receipt of a request that never had a ticket."""
    nothing = {"lane": None, "reason": None, "route": None, "usage": None, "attempts": None, "created_at": None}
    use = {"unit": "token", "charged": 0, "remaining": 0, "limit": 100_000}
    return line(
        at, number=number, **nothing, state="refused", code=code, fair_use=use, ended_at=rfc(NOON + at), **fields
    )


def read(*lines: bytes) -> list[Past]:
    """Read receipts."""
    found = [read_line(each) for each in lines]
    assert all(isinstance(each, Past) for each in found)
    return [each for each in found if isinstance(each, Past)]


def play(configuration: Settings, *lines: bytes, account: AccountLine | None = None, **options: Any) -> list[Played]:
    """Replay receipts; return what became of each, in their order."""
    payers = Payers(settings=configuration, exported={account.name: account} if account else {})
    pasts = read(*lines)
    played = {each.past.id: each for each in Replay(configuration, payers, **options).run(pasts)}
    return [played[past.id] for past in pasts]
