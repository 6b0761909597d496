"""The relay: try the routes in their order until one answers, and pass its bytes on.

Before the caller has got a token, a failed route is left for the next one. After that the next one may
go on with the answer, if it is text; if none can, the failure is an error event. What a try came to is
noted in the meter; what it costs is settled elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import dataclass
from typing import Final

from flatfee.server.answers.joint import Half
from flatfee.server.call import Call
from flatfee.server.faults import Fault, ProviderRefusal, deadline_passed
from flatfee.server.gateway import Gateway
from flatfee.server.meter import Meter
from flatfee.server.settings import RouteSettings
from flatfee.server.stages.failures import Failed
from flatfee.server.stages.passing import ask_provider
from flatfee.server.stages.settle import Bill
from flatfee.server.stages.tries import Job, Try
from flatfee.server.statement import UsedTokens
from flatfee.wire import AttemptOutcome, ErrorCode

log = logging.getLogger("flatfee.server")

LONGEST_WAIT: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cut:
    """An answer that broke off while the caller had a part of it. ``half``: what could be gone on from."""

    route: RouteSettings
    half: Half | None
    usage: UsedTokens | None
    delivered: int
    flowed: bool

    @classmethod
    def of(cls, this: Try, failed: Failed) -> _Cut:
        """Return what a failed try left of its answer."""
        return cls(
            route=this.route,
            half=this.relayed.half() if this.relayed is not None and not this.unread else None,
            usage=this.meter.usage,
            delivered=this.meter.delivered,
            flowed=failed.flowed,
        )

    def note(self, meter: Meter) -> None:
        """Note that the answer ends here, unless another route goes on with it."""
        meter.broke_off(self.route, self.usage, self.delivered, charged=self.flowed)


async def relay(job: Job, call: Call, bill: Bill, gateway: Gateway) -> None:
    """Answer the call from the first route that can.

    Raises:
        Fault: ``fallback_exhausted``, ``provider_unavailable`` or ``deadline_exceeded``; in
            mid-stream ``provider_unavailable``.
        ProviderRefusal: a provider refused the request, and no other route could cure that.
    """
    refusal: ProviderRefusal | None = None
    only_refused = True
    failed: Failed | None = None
    cut: _Cut | None = None
    floor = 0.0
    for route in job.routes:
        if route.room is not None and route.room <= floor:
            continue
        this = Try(job=job, route=route, call=call, bill=bill, gateway=gateway, half=cut.half if cut else None)
        failed = await _try_behind(cut, this)
        if failed is None:
            return
        if failed.curable:
            refusal = failed.refusal
        else:
            only_refused = False
        if failed.outcome is AttemptOutcome.CONTEXT_OVERFLOW:
            floor = max(floor, route.room or 0.0)
        _log_leaving(this, failed)
        cut = _Cut.of(this, failed) if this.forwarded else cut
        if cut is None:
            continue
        cut.note(bill.meter)
        if cut.half is None:
            break
    if cut is not None:
        raise _broke_midway(cut)
    if refusal is not None and only_refused:
        raise refusal
    raise _exhausted(job, gateway, failed)


def _log_leaving(this: Try, failed: Failed) -> None:
    log.info(
        "relay.left_route",
        extra={
            "request_id": this.call.request_id,
            "route": this.route.name,
            "outcome": failed.outcome,
            "status": this.status,
        },
    )


async def _try_behind(cut: _Cut | None, this: Try) -> Failed | None:
    """Try a route; behind a cut, what it said is charged only if the caller got something of it."""
    try:
        return await _try_route(this)
    except BaseException:
        if cut is not None and not this.forwarded:
            cut.note(this.meter)
        raise


async def _try_route(this: Try) -> Failed | None:
    """Try one route, at most twice; ``None`` once it has answered."""
    this.left()
    if not this.admitted():
        this.meter.tried(this.route, AttemptOutcome.UNAVAILABLE, None, 0.0)
        return Failed(AttemptOutcome.UNAVAILABLE)
    failed = await _try_once(this)
    if failed is not None and failed.pause is not None and failed.pause < this.left():
        await asyncio.sleep(failed.pause)
        if this.admitted():
            failed = await _try_once(this)
    return failed


async def _try_once(this: Try) -> Failed | None:
    """Try a route once; ``None`` once it has answered.

    Raises:
        Fault: ``deadline_exceeded``.
        ProviderRefusal: no other route could cure it.
    """
    health, name = this.health, this.route.name
    try:
        await this.dispatch()
        this.begin()
        await ask_provider(this)
    except Failed as failed:
        if failed.outcome in {AttemptOutcome.TIMEOUT, AttemptOutcome.CANCELLED} and this.late():
            # The caller's own limit tells nothing of the route. What was asked and heard by then is charged.
            health.let_go(name, this.opening)
            this.end(AttemptOutcome.CANCELLED)
            this.meter.answering(this.route)
            raise deadline_passed() from failed
        this.end(failed.outcome)
        return _judge(this, failed)
    except BaseException:
        # The caller left, or we failed: that tells nothing of the route.
        if this.meter.whole:
            health.succeeded(name, this.opening)
        else:
            health.let_go(name, this.opening)
            if this.meter.trying is not None:
                this.end(AttemptOutcome.CANCELLED)
        raise
    health.succeeded(name, this.opening)
    return None


def _judge(this: Try, failed: Failed) -> Failed:
    """Note what a failed try tells of the route; return it if another try may follow.

    Raises:
        Fault: ``deadline_exceeded``.
        ProviderRefusal: no other route could cure it.
    """
    name, health, meter = this.route.name, this.health, this.meter
    meter.trying = None
    if failed.blameless:
        health.let_go(name, this.opening)
    elif failed.refusal is not None:
        health.succeeded(name, this.opening)
    else:
        health.failed(name, this.gateway.monotonic(), this.opening, leave_for=failed.leave_for)
    if failed.refusal is not None and not failed.curable and this.half is None:
        raise failed.refusal from None
    if this.late() and not this.forwarded:
        raise deadline_passed() from failed
    return failed


def _exhausted(job: Job, gateway: Gateway, last: Failed | None) -> Fault:
    if len(job.routes) >= 2:
        return Fault(
            ErrorCode.FALLBACK_EXHAUSTED,
            f"All {len(job.routes)} eligible routes failed or were unavailable; the receipt lists each attempt.",
        )
    asked = last.retry_after if last is not None else None
    wait = max(asked or 0.0, job.health.opens_in(job.routes[0].name, gateway.monotonic()))
    return Fault(
        ErrorCode.PROVIDER_UNAVAILABLE,
        "The one eligible route failed or cannot be reached. Try again shortly.",
        retry_after=max(1, math.ceil(min(wait, LONGEST_WAIT))),
    )


def _broke_midway(cut: _Cut) -> Fault:
    name = cut.route.name
    if cut.flowed:
        message = f"The route {name!r} had not finished its answer within its total_timeout; it is not whole."
    else:
        message = f"The route {name!r} failed in the middle of its answer: not whole, and not charged."
    return Fault(ErrorCode.PROVIDER_UNAVAILABLE, message)
