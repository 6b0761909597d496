"""Routes: as the configuration has them, and how they do, asked of every process of the gateway.

They are changed in the file. Nothing of a provider is told but its name: its address may hold a secret.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, Final, Literal

from flatfee.server.admin.endpoint import Endpoint, ListOf, Nothing, Resource, Visit, listed, moment
from flatfee.server.gateway import Gateway
from flatfee.server.health import CircuitState, Latency, RouteHealth, Tried
from flatfee.server.peers import RoutesHealth, ask_health
from flatfee.server.settings import RouteSettings
from flatfee.server.stages.tries import first_token_limit
from flatfee.wire import Tier


class TriedObject(Resource):
    """One try of a route; ``at`` is when it ended."""

    at: datetime
    outcome: str
    status: int | None
    duration_ms: int | None
    first_token_ms: int | None


class LatencyObject(Resource):
    """Milliseconds that half of the tries, and nine in ten, took at most."""

    p50: int
    p90: int


class RouteHealthObject(Resource):
    """The health of a route. ``opens_in`` is in seconds; latencies are of the remembered tries that answered."""

    circuit: CircuitState
    failures_in_a_row: int
    opens_in: float
    probing: bool
    outcomes: dict[str, int]
    recent: list[TriedObject]
    duration_ms: LatencyObject | None
    first_token_ms: LatencyObject | None
    last_success: TriedObject | None
    last_failure: TriedObject | None


class WorkerHealth(Resource):
    """What one process of the gateway knows of a route; one that did not answer tells nothing."""

    worker: int
    answered: bool
    health: RouteHealthObject | None


class TimeLimits(Resource):
    """Limits as they hold, in seconds; for the first token it may matter whether other routes can answer, too."""

    connect: float
    first_token: float
    first_token_alone: float
    idle: float
    total: float


class RouteObject(Resource):
    """A route of the configuration, and its health in every process."""

    object: Literal["route"]
    name: str
    provider: str
    model: str
    tier: Tier
    priority: int
    weight: float
    prefill: bool
    time_limits: TimeLimits
    workers: list[WorkerHealth]


async def _list_routes(visit: Visit[Nothing, Nothing]) -> ListOf[RouteObject]:
    gateway = visit.gateway
    told = await asyncio.gather(*(_told_by(number, gateway) for number in range(gateway.worker.count)))
    return listed([_route(route, told) for route in gateway.settings.routes])


async def _told_by(number: int, gateway: Gateway) -> RoutesHealth | None:
    if number == gateway.worker.number:
        return gateway.routes_health()
    return await ask_health(gateway.worker, number)


def _route(route: RouteSettings, told: list[RoutesHealth | None]) -> RouteObject:
    return RouteObject(
        object="route",
        name=route.name,
        provider=route.provider,
        model=route.model,
        tier=route.tier,
        priority=route.priority,
        weight=route.weight,
        prefill=route.prefill,
        time_limits=_limits(route),
        workers=[_worker(number, (knows or {}).get(route.name)) for number, knows in enumerate(told)],
    )


def _limits(route: RouteSettings) -> TimeLimits:
    return TimeLimits(
        connect=route.connect_timeout,
        first_token=min(first_token_limit(route, alone=False), route.total_timeout),
        first_token_alone=min(first_token_limit(route, alone=True), route.total_timeout),
        idle=route.idle_timeout,
        total=route.total_timeout,
    )


def _worker(number: int, health: RouteHealth | None) -> WorkerHealth:
    told = _health(health) if health is not None else None
    return WorkerHealth(worker=number, answered=told is not None, health=told)


def _health(health: RouteHealth) -> RouteHealthObject:
    return RouteHealthObject(
        circuit=health.circuit,
        failures_in_a_row=health.failures_in_a_row,
        opens_in=round(health.opens_in, 3),
        probing=health.probing,
        outcomes=dict(health.outcomes),
        recent=[_tried(tried) for tried in health.recent],
        duration_ms=_latency(health.duration_ms),
        first_token_ms=_latency(health.first_token_ms),
        last_success=_tried(health.last_success) if health.last_success is not None else None,
        last_failure=_tried(health.last_failure) if health.last_failure is not None else None,
    )


def _tried(tried: Tried) -> TriedObject:
    return TriedObject(
        at=moment(tried.at),
        outcome=tried.outcome,
        status=tried.status,
        duration_ms=tried.duration_ms,
        first_token_ms=tried.first_token_ms,
    )


def _latency(latency: Latency | None) -> LatencyObject | None:
    return LatencyObject(p50=latency.p50, p90=latency.p90) if latency is not None else None


ENDPOINTS: Final[tuple[Endpoint[Any, Any], ...]] = (
    Endpoint(
        method="GET",
        path="/routes",
        summary="List the configured routes and their health, as each process of the gateway knows it.",
        handler=_list_routes,
        answers=ListOf[RouteObject],
    ),
)
