"""Passing a route's answer on to the caller: one try, from its request to its end.

Every failure of the provider becomes ``Failed``; what follows from one is the relay's matter.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

from flatfee.server.answers.joint import Diverged
from flatfee.server.answers.members import UnusableAnswer
from flatfee.server.answers.plain import read_completion
from flatfee.server.answers.reshape import as_completion, as_stream, shape_of
from flatfee.server.answers.sse import BOM
from flatfee.server.answers.stream import RelayedStream
from flatfee.server.meter import Meter
from flatfee.server.patience import Limit
from flatfee.server.providers.base import MAX_ANSWER, ProviderFailure, Upstream
from flatfee.server.stages.failures import Failed, jittered, rejected
from flatfee.server.stages.settle import lane_of
from flatfee.server.stages.tries import Try
from flatfee.server.statement import UsedTokens
from flatfee.server.tell import settled_headers
from flatfee.wire import AttemptOutcome, Header

log = logging.getLogger("flatfee.server")

AFTER_FINISH: Final = 5.0
"""After its last finish reason a stream gets this long for usage and ``[DONE]``: it is whole already."""

TRAILER_BYTES: Final = 65_536
"""More than this behind the last finish reason is neither usage nor ``[DONE]``."""

EARLY_BYTES: Final = 1 << 20
"""More than this before the first token is no answer."""

LINGER_SECONDS: Final = 0.1
_PRELUDE: Final = 64


async def ask_provider(this: Try) -> None:
    """Send the request and pass the answer on.

    Raises:
        Failed: the answer did not come, or not to its end, or it is of no use.
    """
    provider = this.job.providers[this.route.provider]
    hurry = this.hurry()
    now, left = asyncio.get_running_loop().time(), this.left()
    end = now + left
    first_limit = now + (hurry or min(this.first_token_limit(), left))
    limit = Limit(first_limit)
    stream = this.ask.stream
    try:
        with limit:
            async with provider.send(this.route, this.body(), stream=stream) as upstream:
                this.status = upstream.status
                if upstream.status != 200:
                    raise await rejected(this.route, upstream, this.gateway.chance)
                if stream:
                    await _pass_stream(this, upstream, limit, end)
                else:
                    await _pass_completion(this, upstream, limit)
    except TimeoutError as error:
        # A stream that still flowed when its whole time was over did nothing wrong.
        flowed = this.first_token is not None and (limit.when or 0.0) >= end
        hurried = hurry is not None and limit.when == first_limit
        outcome = AttemptOutcome.CANCELLED if this.unread else AttemptOutcome.TIMEOUT
        raise Failed(outcome, blameless=hurried, flowed=flowed) from error
    except ProviderFailure as error:
        again = error.outcome is not AttemptOutcome.TIMEOUT and this.first_token is None
        pause = jittered(this.gateway.chance) if again else None
        raise Failed(error.outcome, pause=pause, blameless=error.stale) from error
    except UnusableAnswer as error:
        log.warning("provider.unusable_answer", extra={"route": this.route.name, "why": str(error)})
        pause = jittered(this.gateway.chance) if this.first_token is None else None
        raise Failed(AttemptOutcome.ERROR, pause=pause) from error
    except Diverged as error:
        raise Failed(AttemptOutcome.DIVERGED, blameless=True) from error


async def _pass_completion(this: Try, upstream: Upstream, limit: Limit) -> None:
    data = (await upstream.read()).removeprefix(BOM)
    if not data.startswith(b"{") and shape_of(data) == "events":
        data = await asyncio.to_thread(as_completion, data, this.ask.choices)  # a long one takes a while
    completion = read_completion(data)
    limit.move(None)
    _note_whole(this, completion.usage, completion.size)
    _tell_route(this)
    settlement = await this.bill.settle()
    this.call.tell(settled_headers(settlement))
    await this.call.respond(200, completion.with_receipt(settlement.json))


async def _pass_stream(this: Try, upstream: Upstream, limit: Limit, end: float) -> None:
    relayed = this.relayed = RelayedStream(
        include_usage=this.ask.include_usage,
        choices=this.ask.choices,
        joint=this.joint(),
        remember=this.others_follow and this.ask.one_text,
    )
    chunks = upstream.chunks()
    early = await _pass_tokens(this, chunks, relayed, limit, end)
    limit.move(None)
    out = early + await _hear_out(chunks, relayed, end, this.meter)
    if relayed.ended_well:
        await _finish_stream(this, relayed, out)
        await _read_to_end(chunks)
        return
    if this.forwarded:  # what was heard last is a part of what the caller has, too
        limit.move(end)
        await _forward(this, relayed, out, limit)
    raise relayed.failure or ProviderFailure(AttemptOutcome.ERROR, "ended without a finish reason")


async def _pass_tokens(
    this: Try, chunks: AsyncIterator[bytes], relayed: RelayedStream, limit: Limit, end: float
) -> bytes:
    """Pass a stream on until nothing but its trailer is missing; return what still waits for a first token."""
    clock = asyncio.get_running_loop().time
    meter = this.meter
    silent_until = end
    early = b""
    data = await _first_bytes(this, chunks, limit, end)
    while data:
        tokens = relayed.tokens
        out = early + relayed.feed(data)
        early = b""
        if relayed.failure is not None and not (this.forwarded or relayed.over):
            raise relayed.failure  # before the caller has got anything of it
        meter.usage, meter.delivered = relayed.usage, relayed.delivered
        if relayed.tokens:
            if not tokens:
                _hear_first_token(this)
            # While the caller reads, no limit of the provider runs: a slow reader is not a slow provider.
            limit.move(end)
            writing_since = clock()
            await _forward(this, relayed, out, limit)
            now = clock()
            # What is no token does not break the silence.
            spoke = relayed.tokens > tokens
            silent_until = now + this.route.idle_timeout if spoke else silent_until + now - writing_since
            limit.move(min(end, silent_until))
        elif len(out) > EARLY_BYTES:
            raise UnusableAnswer(f"has no token in its first {EARLY_BYTES} bytes")
        else:
            early = out  # until something is said, another route can still say it
        if relayed.done or relayed.over:
            break
        if relayed.failure is not None:
            raise relayed.failure
        data = await anext(chunks, b"")
    return early


async def _first_bytes(this: Try, chunks: AsyncIterator[bytes], limit: Limit, end: float) -> bytes:
    """Return the first bytes of a stream; all of it, as a stream, where the provider answered a plain completion."""
    data = await anext(chunks, b"")
    # A blank line or two may come first, and a name may be cut in two; anything longer is an answer.
    while shape_of(data) is None and len(data.strip()) <= _PRELUDE and (more := await anext(chunks, b"")):
        if len(data) > EARLY_BYTES:
            raise UnusableAnswer(f"has nothing in its first {EARLY_BYTES} bytes")
        data += more
    if shape_of(data) != "json":
        return data.removeprefix(BOM)
    parts, size = [data], len(data)
    while data and size <= MAX_ANSWER:
        limit.move(min(end, asyncio.get_running_loop().time() + this.route.idle_timeout))
        data = await anext(chunks, b"")
        parts.append(data)
        size += len(data)
    if size > MAX_ANSWER:
        raise UnusableAnswer(f"has more than {MAX_ANSWER} bytes")
    return b"".join(await asyncio.to_thread(as_stream, b"".join(parts)))


def _hear_first_token(this: Try) -> None:
    this.first_token = this.gateway.monotonic()
    this.health.answering(this.route.name, this.opening)


async def _hear_out(chunks: AsyncIterator[bytes], relayed: RelayedStream, end: float, meter: Meter) -> bytes:
    """Hear what may follow the last finish reason, usage and ``[DONE]``; without them the answer is whole, too."""
    out: list[bytes] = []
    limit = Limit(min(end, asyncio.get_running_loop().time() + AFTER_FINISH))
    with suppress(TimeoutError, ProviderFailure, StopAsyncIteration), limit:
        while not relayed.done and relayed.failure is None and sum(map(len, out)) < TRAILER_BYTES:
            out.append(relayed.feed(await anext(chunks)))
            meter.usage = relayed.usage
    return b"".join([*out, relayed.end()])


async def _read_to_end(chunks: AsyncIterator[bytes]) -> None:
    """Read the last bytes of a response whose answer was passed on, so that its connection can be used again."""
    limit = Limit(asyncio.get_running_loop().time() + LINGER_SECONDS)
    with suppress(TimeoutError, ProviderFailure), limit:
        async for _ in chunks:
            pass


async def _forward(this: Try, relayed: RelayedStream, out: bytes, limit: Limit) -> None:
    if not out:
        return
    if relayed.passed_on and not this.forwarded:
        this.forwarded = True
        this.meter.answering(this.route)
    try:
        if not this.call.started:
            _tell_route(this)
            await this.call.start_stream()
        await this.call.write(out)
    except asyncio.CancelledError:
        if limit.expired:
            this.unread = True  # what was to be written may not have been: nobody can go on from here
        raise


async def _finish_stream(this: Try, relayed: RelayedStream, out: bytes) -> None:
    """Settle first: whether or not the caller takes the last bytes, the answer was whole."""
    _note_whole(this, relayed.usage, relayed.delivered)
    settlement = await this.bill.settle()
    if not this.call.started:
        _tell_route(this)
        this.call.tell(settled_headers(settlement))
        await this.call.start_stream()
    await this.call.finish(out + relayed.tail(settlement.json))


def _note_whole(this: Try, usage: UsedTokens | None, delivered: int) -> None:
    meter = this.meter
    meter.answering(this.route)
    meter.usage, meter.delivered, meter.whole = usage, delivered, True
    this.end(AttemptOutcome.OK)


def _tell_route(this: Try) -> None:
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
