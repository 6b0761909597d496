"""The relay: try the routes in their order until one answers, and pass its bytes on.

Before the caller has got a byte, a failed route is left for the next one; after that, a failure
is an error event. What a try came to is noted in the meter; what it costs is settled elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from flatfee.server.answers import RelayedStream, UnusableAnswer, read_completion
from flatfee.server.ask import Ask
from flatfee.server.call import Call
from flatfee.server.faults import CallerGone, Fault, ProviderRefusal, deadline_passed
from flatfee.server.gateway import Gateway
from flatfee.server.meter import Meter
from flatfee.server.patience import in_time
from flatfee.server.providers.base import ProviderFailure, Upstream
from flatfee.server.settings import RouteSettings
from flatfee.server.stages.failures import Failed, jittered, rejected
from flatfee.server.stages.settle import Bill, lane_of
from flatfee.server.tell import receipt_headers
from flatfee.wire import AttemptOutcome, ErrorCode, Header

log = logging.getLogger("flatfee.server")

FIRST_TOKEN_WITH_OTHERS: Final = 10.0
FIRST_TOKEN_ALONE: Final = 60.0
AFTER_FINISH: Final = 5.0
"""After its last finish reason a stream gets this long for usage and ``[DONE]``: it is whole already."""

TRAILER_BYTES: Final = 65_536
"""More than this behind the last finish reason is neither usage nor ``[DONE]``."""

LINGER_SECONDS: Final = 0.1
LONGEST_WAIT: Final = 3600.0
_CLOCK_SLACK: Final = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to relay: a request, and the routes in order."""

    ask: Ask
    routes: Sequence[RouteSettings]


async def relay(job: Job, call: Call, bill: Bill, gateway: Gateway) -> None:
    """Answer the call from the first route that can.

    Raises:
        Fault: ``fallback_exhausted``, ``provider_unavailable`` or ``deadline_exceeded``; in
            mid-stream ``provider_unavailable``.
        ProviderRefusal: a provider refused the request, and no other route could cure that.
    """
    refusal: ProviderRefusal | None = None
    failed: Failed | None = None
    floor = 0
    for route in job.routes:
        if route.context_tokens is not None and route.context_tokens <= floor:
            continue
        failed = await _try_route(_Try(job, route, call, bill, gateway, alone=len(job.routes) == 1))
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
    raise _exhausted(job, gateway, failed)


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
        if self.bill.deadline is None:
            return self.route.total_timeout
        left = self.bill.deadline - self.gateway.monotonic()
        if left <= 0:
            raise deadline_passed()
        return min(left, self.route.total_timeout)

    async def dispatch(self) -> None:
        """Have the ledger mark that money is about to be spent.

        Raises:
            Fault: ``deadline_exceeded``: it did not say so while the caller waited.
            StoreDown: it cannot be written.
        """
        left = self.left() if self.bill.deadline is not None else None
        try:
            await in_time(self.gateway.store.dispatch(self.bill.ticket), left, self.gateway.keep_doing)
        except TimeoutError as error:
            raise deadline_passed() from error

    def late(self) -> bool:
        """Tell whether the caller's deadline has passed. Timers may ring a moment before their time."""
        return self.bill.deadline is not None and self.gateway.monotonic() > self.bill.deadline - _CLOCK_SLACK

    def first_token_limit(self) -> float:
        """Return the seconds until the first token must be there. A plain answer comes all at once."""
        if not self.job.ask.stream:
            return self.route.total_timeout
        default = FIRST_TOKEN_ALONE if self.alone else FIRST_TOKEN_WITH_OTHERS
        return self.route.first_token_timeout or default


async def _try_route(this: _Try) -> Failed | None:
    """Try one route, at most twice; ``None`` once it has answered."""
    name, health, now = this.route.name, this.gateway.health, this.gateway.monotonic
    this.left()
    if not health.admits(name, now()):
        this.meter.tried(this.route, AttemptOutcome.UNAVAILABLE, None, 0.0)
        return Failed(AttemptOutcome.UNAVAILABLE)
    failed = await _try_once(this)
    if failed is not None and failed.pause is not None and failed.pause < this.left():
        await asyncio.sleep(failed.pause)
        if health.admits(name, now()):
            failed = await _try_once(this)
    return failed


async def _try_once(this: _Try) -> Failed | None:
    route, health, meter = this.route, this.gateway.health, this.meter
    started = this.gateway.monotonic()
    try:
        if not meter.dispatched:
            # From here on the mark may stand in the ledger, even if we never hear that it does.
            meter.dispatched = True
            await this.dispatch()
        meter.trying = route
        await _ask_provider(this)
    except Failed as failed:
        meter.trying = None
        meter.tried(route, failed.outcome, failed.status, this.gateway.monotonic() - started)
        return _judge(this, failed)
    except BaseException:
        # The caller left, or we failed: that tells nothing of the route.
        health.let_go(route.name)
        raise
    health.succeeded(route.name)
    return None


def _judge(this: _Try, failed: Failed) -> Failed:
    """Note what a failed try tells of the route; return it if another try may follow.

    Raises:
        Fault: ``deadline_exceeded``, or ``provider_unavailable`` in mid-stream.
        ProviderRefusal: no other route could cure it.
    """
    name, health = this.route.name, this.gateway.health
    if failed.outcome is AttemptOutcome.TIMEOUT and this.late():
        # The caller's own limit tells nothing of the route. What was asked and heard by then is charged.
        health.let_go(name)
        this.meter.route = this.route
        raise deadline_passed() from failed
    if failed.blameless:
        health.let_go(name)
    elif failed.refusal is not None:
        health.succeeded(name)
    else:
        health.failed(name, this.gateway.monotonic())
    if failed.refusal is not None and failed.outcome is AttemptOutcome.REFUSED:
        raise failed.refusal from None
    if this.call.started:
        this.meter.broken = not failed.blameless
        raise _broke_midway(this.route, failed) from failed
    if this.late():
        raise deadline_passed() from failed
    return failed


async def _ask_provider(this: _Try) -> None:
    """Send the request and pass the answer on; every failure of the provider becomes ``Failed``."""
    route, ask = this.route, this.job.ask
    provider = this.gateway.providers[route.provider]
    seconds = min(this.first_token_limit(), this.left())
    started = this.gateway.monotonic()
    end = asyncio.get_running_loop().time() + this.left()
    limit = asyncio.timeout(seconds)
    try:
        async with limit, provider.send(route, ask.body_for(route.model), stream=ask.stream) as upstream:
            if upstream.status != 200:
                raise await rejected(route, upstream, this.gateway.chance)
            if ask.stream:
                await _pass_stream(this, upstream, limit, end, started)
            else:
                await _pass_completion(this, upstream, limit, started)
    except TimeoutError as error:
        # A stream that still flowed when its whole time was over did nothing wrong.
        flowed = this.call.started and (limit.when() or 0.0) >= end
        raise Failed(AttemptOutcome.TIMEOUT, blameless=flowed) from error
    except ProviderFailure as error:
        silent = error.outcome is AttemptOutcome.TIMEOUT
        raise Failed(error.outcome, pause=None if silent else jittered(this.gateway.chance)) from error
    except UnusableAnswer as error:
        log.warning("provider.unusable_answer", extra={"route": route.name, "why": str(error)})
        raise Failed(AttemptOutcome.ERROR, 200, pause=jittered(this.gateway.chance)) from error


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


async def _pass_stream(this: _Try, upstream: Upstream, limit: asyncio.Timeout, end: float, started: float) -> None:
    clock = asyncio.get_running_loop().time
    silent_until = end
    relayed = RelayedStream(include_usage=this.job.ask.include_usage, choices=this.job.ask.choices)
    chunks = upstream.chunks()
    waiting = b""
    async for data in chunks:
        heard, writing_since = relayed.heard, clock()
        out = waiting + relayed.feed(data)
        waiting = b""
        this.meter.usage, this.meter.delivered = relayed.usage, relayed.delivered
        if relayed.started:
            # While the caller reads, no limit of the provider runs: a slow reader is not a slow provider.
            limit.reschedule(end)
            await _forward_in_time(this, out, limit)
            # Comments and keep-alives are not tokens: after them the silence goes on.
            silent_until = silent_until + clock() - writing_since
            if relayed.heard > heard:
                silent_until = clock() + this.route.idle_timeout
            limit.reschedule(min(end, silent_until))
        else:
            # Comments wait for the first event; those without end are dropped.
            waiting = out[:TRAILER_BYTES]
        if relayed.done or relayed.over:
            break
    limit.reschedule(None)
    out = waiting + await _hear_out(chunks, relayed, end)
    if not relayed.whole:
        raise ProviderFailure(AttemptOutcome.ERROR, "ended without a finish reason")
    await _finish_stream(this, relayed, out, started)
    await _read_to_end(chunks)


async def _hear_out(chunks: AsyncIterator[bytes], relayed: RelayedStream, end: float) -> bytes:
    """Hear what may follow the last finish reason, usage and ``[DONE]``; without them the answer is whole, too."""
    out: list[bytes] = []
    with suppress(TimeoutError, ProviderFailure, StopAsyncIteration, UnusableAnswer):
        async with asyncio.timeout_at(min(end, asyncio.get_running_loop().time() + AFTER_FINISH)):
            while not relayed.done and sum(map(len, out)) < TRAILER_BYTES:
                out.append(relayed.feed(await anext(chunks)))
    return b"".join([*out, relayed.end()])


async def _read_to_end(chunks: AsyncIterator[bytes]) -> None:
    """Read the last bytes of a response whose answer was passed on, so that its connection can be used again."""
    with suppress(TimeoutError, ProviderFailure):
        async with asyncio.timeout(LINGER_SECONDS):
            async for _ in chunks:
                pass


async def _forward_in_time(this: _Try, out: bytes, limit: asyncio.Timeout) -> None:
    try:
        await _forward(this, out)
    except asyncio.CancelledError:
        if limit.expired():
            # It did not read until the route's whole time was over: that is no fault of the route.
            raise CallerGone from None
        raise


async def _forward(this: _Try, out: bytes) -> None:
    if not this.call.started:
        this.meter.route = this.route
        _tell_route(this)
        await this.call.start_stream()
    if out:
        await this.call.write(out)


async def _finish_stream(this: _Try, relayed: RelayedStream, out: bytes, started: float) -> None:
    """Settle first: whether or not the caller takes the last bytes, the answer was whole."""
    meter = this.meter
    meter.route, meter.usage, meter.delivered, meter.whole = this.route, relayed.usage, relayed.delivered, True
    meter.tried(this.route, AttemptOutcome.OK, 200, this.gateway.monotonic() - started)
    settlement = await this.bill.settle()
    if not this.call.started:
        _tell_route(this)
        this.call.tell(receipt_headers(settlement.receipt))
        await this.call.start_stream()
    await this.call.finish(out + relayed.tail(settlement.json))


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


def _exhausted(job: Job, gateway: Gateway, last: Failed | None) -> Fault:
    if len(job.routes) >= 2:
        return Fault(
            ErrorCode.FALLBACK_EXHAUSTED,
            f"All {len(job.routes)} eligible routes failed or were unavailable; the receipt lists each attempt.",
        )
    asked = last.retry_after if last is not None else None
    wait = max(asked or 0.0, gateway.health.opens_in(job.routes[0].name, gateway.monotonic()))
    return Fault(
        ErrorCode.PROVIDER_UNAVAILABLE,
        "The one eligible route failed or cannot be reached. Try again shortly.",
        retry_after=max(1, math.ceil(min(wait, LONGEST_WAIT))),
    )


def _broke_midway(route: RouteSettings, failed: Failed) -> Fault:
    if failed.blameless:
        message = f"The route {route.name!r} had not finished its answer within its total_timeout; it is not whole."
    else:
        message = f"The route {route.name!r} failed in the middle of its answer: not whole, and not charged."
    return Fault(ErrorCode.PROVIDER_UNAVAILABLE, message)
