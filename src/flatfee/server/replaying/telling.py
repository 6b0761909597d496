"""A comparison as plain data: what the JSON form is, and what table and chart are made of. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from flatfee.server.replaying.comparing import Comparison
from flatfee.server.replaying.results import REFUSED
from flatfee.server.replaying.tally import Tally
from flatfee.wire import ErrorCode, Lane

LANES: Final = (*Lane, REFUSED)
"""In the order in which they are shown."""

MOST_ACCOUNTS: Final = 1000
"""Accounts that are listed; all are counted."""


def as_json(comparison: Comparison, seed: int) -> dict[str, Any]:
    """Return a comparison as one JSON object."""
    return {
        "object": "policy_replay",
        "from": moment(comparison.first),
        "until": moment(comparison.last),
        "requests": comparison.was.requests,
        "approximate": comparison.approximate,
        "unjudged": comparison.unjudged,
        "guessed": comparison.guessed,
        "seed": seed,
        "was_from": "receipts" if comparison.before is None else "configuration",
        "was": _side(comparison.was),
        "would": _side(comparison.would),
        "moved": [
            {"was": was, "would": would, "requests": requests}
            for (was, would), requests in sorted(comparison.moved.items(), key=lambda each: (-each[1], each[0]))
        ],
        "rerouted": comparison.rerouted,
        "accounts": [
            {"account": name, "was": _account(comparison.was, name), "would": _account(comparison.would, name)}
            for name in accounts(comparison)[:MOST_ACCOUNTS]
        ],
    }


def _side(tally: Tally) -> dict[str, Any]:
    ran_out = tally.ran_out()
    return {
        "lanes": {lane: tally.lanes[lane] for lane in LANES},
        "routes": _counted(tally.routes),
        "refused": _counted(tally.codes),
        "premium_units": _counted(tally.premium),
        "fallback_units": _counted(tally.fallback),
        "continuation_units": _counted(tally.continuation) if tally.continuation is not None else None,
        "workflows_refused": len(tally.workflows),
        "workflow_requests_refused": tally.codes[ErrorCode.WORKFLOW_LIMIT],
        "accounts_ran_out": len(ran_out),
        "first_ran_out_at": moment(ran_out[0][1]) if ran_out else None,
    }


def _counted(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items()))


def _account(tally: Tally, name: str) -> dict[str, Any]:
    sums = tally.accounts[name]
    return {
        "requests": sums.requests,
        "premium_units": sums.premium,
        "refused": sums.refused,
        "ran_out_at": moment(sums.ran_out_at),
    }


def accounts(comparison: Comparison) -> Sequence[str]:
    """Return the accounts that run out of fair-use on either side, by what they lose of it, then by when."""
    was, would = dict(comparison.was.ran_out()), dict(comparison.would.ran_out())
    never = float("inf")
    return sorted(
        was.keys() | would.keys(),
        key=lambda name: (min(would.get(name, never), was.get(name, never)), name),
    )


def moment(at: float | None) -> str | None:
    """Return a moment in RFC 3339, UTC, to the second."""
    return f"{datetime.fromtimestamp(int(at), UTC):%Y-%m-%dT%H:%M:%SZ}" if at is not None else None
