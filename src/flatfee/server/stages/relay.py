"""The relay: try the routes in their order until one answers, and pass its bytes on.

Before the caller has got a byte, a failed route is left for the next one; after that, a failure
is an error event. What a try came to is noted in the meter; what it costs is settled elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from flatfee.server.answers import RelayedStream, UnusableAnswer, read_completion, read_refusal
from flatfee.server.ask import Ask
from flatfee.server.call import Call
from flatfee.server.faults import Fault, ProviderRefusal
from flatfee.server.gateway import Gateway
from flatfee.server.meter import Meter
from flatfee.server.providers.base import ProviderFailure, Upstream
from flatfee.server.settings import RouteSettings
from flatfee.server.stages.settle import Bill, lane_of
from flatfee.server.tell import receipt_headers
from flatfee.wire import AttemptOutcome, ErrorCode, Header

log = logging.getLogger("flatfee.server")

RETRY_AFTER_AT_MOST: Final = 5.0
"""A provider's Retry-After up to this long is waited for; a longer one sends us to the next route."""

SAME_ROUTE_PAUSE: Final = 0.25
FIRST_TOKEN_WITH_OTHERS: Final = 10.0
FIRST_TOKEN_ALONE: Final = 60.0
AFTER_FINISH: Final = 5.0
"""After its finish reason a stream gets this long for usage and ``[DONE]``: it is whole already."""

_RETRY_SAME_STATUSES: Final = frozenset({429, 500, 502, 503, 504})
_OPERATORS_FAULT: Final = frozenset({401, 403, 404, 407})
_CONTEXT_CODE: Final = "context_length_exceeded"


class _Failed(Exception):
    """One try came to nothing. ``pause`` is how long to wait before the same route may be tried again."""

    def __init__(
        self,
        outcome: AttemptOutcome,
        status: int | None = None,
        *,
        pause: float | None = None,
        refusal: ProviderRefusal | None = None,
    ) -> None:
        super().__init__(outcome)
        self.outcome = outcome
        self.status = status
        self.pause = pause
        self.refusal = refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to relay: the routes in order, and until when (the gateway's monotonic clock)."""

    ask: Ask
    routes: Sequence[RouteSettings]
    deadline: float | None


async def relay(job: Job, call: Call, bill: Bill, gateway: Gateway) -> None:
    """Answer the call from the first route that can.

    Raises:
        Fault: ``fallback_exhausted``, ``provider_unavailable`` or ``deadline_exceeded``; in
            mid-stream ``provider_unavailable``.
        ProviderRefusal: a provider refused the request, and no other route could cure that.
    """
    refusal: ProviderRefusal | None = None
    floor = 0
    for index, route in enumerate(job.routes):
        if route.context_tokens is not None and route.context_tokens <= floor:
            continue
        alone = index == len(job.routes) - 1 and index == 0
        failed = await _try_route(_Try(job, route, call, bill, gateway, alone=alone))
        if failed is None:
            return
        if failed.outcome is AttemptOutcome.CONTEXT_OVERFLOW:
            refusal = failed.refusal
            floor = max(floor, route.context_tokens or 0)
        log.info(
            "relay.left_route",
            extra={
                "request_id": call.request_id,
                "route": route.name,
                "outcome": failed.outcome,
                "status": failed.status,
            },
        )
    if refusal is not None:
        raise refusal
    raise _exhausted(job, gateway)


@dataclass(frozen=True, slots=True)
class _Try:
    job: Job
    route: RouteSettings
    call: Call
    bill: Bill
    gateway: Gateway
    alone: bool

    @property
    def meter(self) -> Meter:
        return self.bill.meter

    def left(self) -> float:
        """Return the seconds this try may take in all.

        Raises:
            Fault: ``deadline_exceeded``.
        """
        if self.job.deadline is None:
            return self.route.total_timeout
        left = self.job.deadline - self.gateway.monotonic()
        if left <= 0:
            raise _deadline_passed()
        return min(left, self.route.total_timeout)

    def first_token_limit(self) -> float:
        """Return the seconds until the first token must be there. A plain answer comes all at once."""
        if not self.job.ask.stream:
            return self.route.total_timeout
        default = FIRST_TOKEN_ALONE if self.alone else FIRST_TOKEN_WITH_OTHERS
        return self.route.first_token_timeout or default


async def _try_route(this: _Try) -> _Failed | None:
    """Try one route, at most twice; ``None`` once it has answered."""
    name, circuits, now = this.route.name, this.gateway.circuits, this.gateway.monotonic
    this.left()
    if not circuits.admits(name, now()):
        this.meter.tried(this.route, AttemptOutcome.UNAVAILABLE, None, 0.0)
        return _Failed(AttemptOutcome.UNAVAILABLE)
    failed = await _try_once(this)
    if failed is not None and failed.pause is not None and failed.pause < this.left():
        await asyncio.sleep(failed.pause)
        failed = await _try_once(this)
    return failed


async def _try_once(this: _Try) -> _Failed | None:
    route, circuits, meter = this.route, this.gateway.circuits, this.meter
    started = this.gateway.monotonic()
    if not meter.dispatched:
        await this.gateway.store.dispatch(this.bill.ticket)
        meter.dispatched = True
    meter.trying = route
    try:
        await _ask_provider(this)
    except _Failed as failed:
        meter.tried(route, failed.outcome, failed.status, this.gateway.monotonic() - started)
        if failed.outcome in {AttemptOutcome.REFUSED, AttemptOutcome.CONTEXT_OVERFLOW}:
            circuits.succeeded(route.name)
        else:
            circuits.failed(route.name, this.gateway.monotonic())
        if failed.outcome is AttemptOutcome.REFUSED and failed.refusal is not None:
            raise failed.refusal from None
        if this.call.started:
            meter.broken = True
            raise _broke_midway(route) from failed
        if this.job.deadline is not None and this.gateway.monotonic() >= this.job.deadline:
            raise _deadline_passed() from failed
        return failed
    except asyncio.CancelledError:
        circuits.let_go(route.name)
        raise
    circuits.succeeded(route.name)
    return None


async def _ask_provider(this: _Try) -> None:
    """Send the request and pass the answer on; every failure of the provider becomes ``_Failed``."""
    route, ask = this.route, this.job.ask
    provider = this.gateway.providers[route.provider]
    seconds = min(this.first_token_limit(), this.left())
    started = this.gateway.monotonic()
    try:
        async with asyncio.timeout(seconds) as limit:
            async with provider.send(route, ask.body_for(route.model), stream=ask.stream) as upstream:
                if upstream.status != 200:
                    raise await _rejected(this, upstream)
                if ask.stream:
                    await _pass_stream(this, upstream, limit, started)
                else:
                    await _pass_completion(this, upstream, limit, started)
    except TimeoutError as error:
        raise _Failed(AttemptOutcome.TIMEOUT) from error
    except ProviderFailure as error:
        raise _Failed(error.outcome, pause=_jittered(this.gateway)) from error
    except UnusableAnswer as error:
        log.warning("provider.unusable_answer", extra={"route": route.name, "why": str(error)})
        raise _Failed(AttemptOutcome.ERROR, 200, pause=_jittered(this.gateway)) from error


async def _pass_completion(this: _Try, upstream: Upstream, limit: asyncio.Timeout, started: float) -> None:
    completion = read_completion(await upstream.read())
    limit.reschedule(None)
    meter = this.meter
    meter.route, meter.usage, meter.delivered, meter.whole = this.route, completion.usage, completion.size, True
    meter.tried(this.route, AttemptOutcome.OK, 200, this.gateway.monotonic() - started)
    _tell_route(this)
    settlement = await this.bill.settle()
    this.call.tell(receipt_headers(settlement.receipt))
    await this.call.respond(200, completion.with_receipt(settlement.json))


async def _pass_stream(this: _Try, upstream: Upstream, limit: asyncio.Timeout, started: float) -> None:
    clock = asyncio.get_running_loop().time
    end = clock() + this.left()
    relayed = RelayedStream(include_usage=this.job.ask.include_usage)
    waiting = b""
    async for data in upstream.chunks():
        out = waiting + relayed.feed(data)
        waiting = b""
        this.meter.usage, this.meter.delivered = relayed.usage, relayed.delivered
        if not relayed.started:
            waiting = out
            continue
        # While the caller reads, no limit of the provider runs: a slow reader is not a slow provider.
        limit.reschedule(end)
        await _forward(this, out)
        if relayed.done:
            break
        limit.reschedule(min(end, clock() + (AFTER_FINISH if relayed.whole else this.route.idle_timeout)))
    out = relayed.end()
    limit.reschedule(None)
    if not relayed.whole:
        raise ProviderFailure(AttemptOutcome.ERROR, "ended without a finish reason")
    await _forward(this, waiting + out)
    await _finish_stream(this, relayed, started)


async def _forward(this: _Try, out: bytes) -> None:
    if not this.call.started:
        this.meter.route = this.route
        _tell_route(this)
        await this.call.start_stream()
    if out:
        await this.call.write(out)


async def _finish_stream(this: _Try, relayed: RelayedStream, started: float) -> None:
    this.meter.usage, this.meter.delivered, this.meter.whole = relayed.usage, relayed.delivered, True
    this.meter.tried(this.route, AttemptOutcome.OK, 200, this.gateway.monotonic() - started)
    settlement = await this.bill.settle()
    await this.call.finish(relayed.tail(settlement.json))


def _tell_route(this: _Try) -> None:
    lane, reason = lane_of(this.bill.ticket, this.meter)
    this.call.tell(
        {
            Header.LANE: lane,
            Header.REASON: reason,
            Header.MODEL: this.route.model,
            Header.ROUTE: this.route.name,
            Header.ATTEMPTS: str(this.meter.attempt_number()),
        }
    )


async def _rejected(this: _Try, upstream: Upstream) -> _Failed:
    """Classify an answer that is not 200."""
    status = upstream.status
    if status in _OPERATORS_FAULT or 300 <= status < 400:
        log.error(
            "provider.misconfigured",
            extra={"route": this.route.name, "status": status, "cure": "check the provider's base_url, key and model"},
        )
        return _Failed(AttemptOutcome.ERROR, status)
    if status == 429 or status >= 500 or status == 408:
        outcome = AttemptOutcome.RATE_LIMITED if status == 429 else AttemptOutcome.ERROR
        return _Failed(outcome, status, pause=_pause(this.gateway, status, upstream.headers.get("retry-after")))
    error = read_refusal(await upstream.read())
    outcome = AttemptOutcome.CONTEXT_OVERFLOW if error["code"] == _CONTEXT_CODE else AttemptOutcome.REFUSED
    return _Failed(outcome, status, refusal=ProviderRefusal(status, error))


def _pause(gateway: Gateway, status: int, retry_after: str | None) -> float | None:
    """Return how long to wait before the same route is tried again; ``None``: go on to the next."""
    if status not in _RETRY_SAME_STATUSES:
        return None
    if retry_after is None:
        return _jittered(gateway)
    try:
        seconds = float(retry_after)
    except ValueError:
        return _jittered(gateway)
    return max(seconds, _jittered(gateway)) if 0 <= seconds <= RETRY_AFTER_AT_MOST else None


def _jittered(gateway: Gateway) -> float:
    return SAME_ROUTE_PAUSE * (1 + gateway.chance())


def _exhausted(job: Job, gateway: Gateway) -> Fault:
    wait = gateway.circuits.opens_in(gateway.monotonic())
    if len(job.routes) >= 2:
        return Fault(
            ErrorCode.FALLBACK_EXHAUSTED,
            f"All {len(job.routes)} eligible routes failed or were unavailable; the receipt lists each attempt.",
        )
    return Fault(
        ErrorCode.PROVIDER_UNAVAILABLE,
        "The one eligible route failed or cannot be reached. Try again shortly.",
        retry_after=max(1, min(60, int(wait or 0) + 1)),
    )


def _broke_midway(route: RouteSettings) -> Fault:
    return Fault(
        ErrorCode.PROVIDER_UNAVAILABLE,
        f"The route {route.name!r} failed in the middle of its answer, which is not whole. It was not charged.",
    )


def _deadline_passed() -> Fault:
    return Fault(ErrorCode.DEADLINE_EXCEEDED, f"The caller's {Header.DEADLINE_MS} passed before a route had answered.")
