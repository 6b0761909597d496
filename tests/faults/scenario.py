"""One run of one row: a gateway on loopback, the faulty provider, a caller; and what each of them knows afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import httpx
from tests.faults.callers import ALL_CALLERS, Ask, Heard, heard_by
from tests.faults.steps import Seen
from tests.faults.table import Company, Row
from tests.faults.upstream import FaultyUpstream
from tests.server.fakes import KEY, make_settings, route, until
from tests.server.fakes_gateway import on_loopback

from flatfee.server.settings import ProviderSettings, Settings

FIRST: Final = "failing"
OTHER: Final = "other"
PROVIDER_KEY: Final = "canary-key-of-the-provider"
QUESTION: Final = "Which animal jumps?"
GOODBYE: Final = 1.0
"""Seconds within which a provider must have been left after the caller had its answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Which row, in which company, asked by whom and how."""

    row: Row
    company: Company
    shape: str
    caller: str

    def __str__(self) -> str:
        return f"{self.row.key}, {self.company}, {self.shape}, {self.caller}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What came of a case. ``heard`` is ``None`` where the caller was left hanging.

    ``tries`` arrived at the failing route's provider and ``others`` at the other one's; ``receipt``
    and ``receipts`` (how many) are what the ledger tells, ``used`` the units that it has noted.
    """

    case: Case
    heard: Heard | None
    tries: Sequence[Seen]
    others: Sequence[Seen]
    receipt: Mapping[str, Any] | None
    receipts: int
    used: int
    trapped: int
    still_open: int


_MODELS: Final = {Company.HEALTHY: "healthy", Company.PREFILL: "healthy", Company.OTHERWISE: "healthy-otherwise"}


def settings_of(case: Case, upstream: FaultyUpstream) -> Settings:
    """Return the gateway's settings: the failing route first, the other behind it."""
    limits = case.row.limits
    failing = to(
        FIRST,
        connect_timeout=limits.connect,
        first_token_timeout=limits.first,
        idle_timeout=limits.idle,
        total_timeout=limits.total if case.shape == "stream" else limits.plain,
    )
    routes = [failing]
    if case.company in _MODELS:
        routes.append(to(OTHER, priority=2, prefill=case.company is Company.PREFILL))
    return settings_with(upstream, *routes, urls={FIRST: getattr(upstream, case.row.provider)})


def to(name: str, **options: Any) -> dict[str, Any]:
    """Return a premium route to a provider and a model of the same name."""
    return route(name, **{"provider": name, "model": name, **options})


def settings_with(
    upstream: FaultyUpstream, *routes: Mapping[str, Any], urls: Mapping[str, str] | None = None, **plan: Any
) -> Settings:
    """Return a gateway's settings with some routes, each to a provider of its own; ``urls`` are not the upstream's."""
    places = {each["provider"]: (urls or {}).get(each["provider"], upstream.url) for each in routes}
    providers = tuple(
        ProviderSettings.model_validate({"name": name, "kind": "openai", "base_url": url, "api_key": PROVIDER_KEY})
        for name, url in places.items()
    )
    return make_settings(routes=routes, **plan).model_copy(update={"providers": providers})


def _plays(case: Case, upstream: FaultyUpstream) -> None:
    row = case.row
    if row.times is None:
        upstream.plays(FIRST, then=row.name)
    else:
        upstream.plays(FIRST, *[row.name] * (row.before + row.times))
    upstream.plays(OTHER, then=_MODELS.get(case.company, "healthy"))


async def run(case: Case) -> Run:
    """Run one case from a fresh gateway to its end."""
    async with FaultyUpstream() as upstream:
        _plays(case, upstream)
        async with on_loopback(settings_of(case, upstream)) as served:
            url = f"http://127.0.0.1:{served.port}/v1"
            body = {
                "model": "premium",
                "messages": [{"role": "user", "content": QUESTION}],
                "stream": case.shape == "stream",
                **case.row.body,
            }
            ask = Ask(url=url, key=KEY, body=body)
            for _ in range(case.row.before):
                await heard_by(ALL_CALLERS["flatfee"], ask)
            earlier = len(upstream.seen)
            heard = await heard_by(ALL_CALLERS[case.caller], ask)
            seen = upstream.seen[earlier:]
            await _left_alone(seen)
            await until(lambda: not served.app.gateway.running)
            still_open = sum(not each.over.is_set() for each in seen)
            return await _collected(case, heard, seen, upstream, url, still_open)


async def _left_alone(seen: Sequence[Seen]) -> None:
    """Wait until the provider has nothing more to do, somewhat longer than that may take."""
    with suppress(TimeoutError):
        async with asyncio.timeout(3 * GOODBYE):
            for each in seen:
                await each.over.wait()


async def _collected(
    case: Case, heard: Heard | None, seen: Sequence[Seen], upstream: FaultyUpstream, url: str, still_open: int
) -> Run:
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {KEY}"}) as client:
        listed = (await client.get(f"{url}/receipts", params={"limit": 10})).json()["data"]
        usage = (await client.get(f"{url}/usage")).json()
    earlier = case.row.before
    newest = sorted(listed, key=lambda receipt: str(receipt["request_id"]))
    return Run(
        case=case,
        heard=heard,
        tries=[each for each in seen if each.model == FIRST],
        others=[each for each in seen if each.model == OTHER],
        receipt=newest[earlier] if len(newest) > earlier else None,
        receipts=len(newest) - earlier,
        used=usage["fair_use"]["used"] - sum(charged(receipt) for receipt in newest[:earlier]),
        trapped=upstream.trap,
        still_open=still_open,
    )


def charged(receipt: Mapping[str, Any]) -> int:
    """Return the units that a receipt says were charged."""
    return int((receipt.get("fair_use") or {}).get("charged") or 0)
