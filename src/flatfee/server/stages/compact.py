"""The request as economy routes are asked it: compacted, where the operator switched that on and it is long."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from flatfee.receipt import Compaction
from flatfee.server.ask import Ask
from flatfee.server.compaction.compact import compact
from flatfee.server.policy.facts import Facts
from flatfee.server.policy.plan import holds
from flatfee.server.settings import CompactionSettings, Settings
from flatfee.wire import Lane, Tier

_LANES: Final = frozenset({Lane.BUDGET, Lane.CONTINUATION})
"""Where economy was chosen. A fallback from premium is an emergency, in which nothing else is changed as well."""

_AT_ONCE: Final = 1 << 18
"""Bytes that are gone through in a few milliseconds. More would hold up other requests."""

_NEARLY: Final = 0.9
"""From this share of ``over`` on it is counted message by message whether a request is too large.

The estimate of a whole one looks at samples. If it were asked, a request that was compacted before could pass for
short enough once, and the provider would have to read all of it anew.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compacted:
    """A request without what was trimmed, and what the receipt tells of that."""

    ask: Ask
    figures: Compaction


async def compacted(
    ask: Ask, lane: Lane, settings: CompactionSettings | None, known: Compacted | None = None
) -> Compacted | None:
    """Return a request as economy is asked it on a lane; ``None`` if it stays as it is.

    It is the same on every lane where it is compacted at all, so ``known`` is taken where it was needed before.
    """
    if settings is None or not _applies(ask, lane, settings):
        return None
    if known is not None:
        return known
    if len(memoryview(ask.fields["messages"])) <= _AT_ONCE:
        return _compacted(ask, settings)
    return await asyncio.to_thread(_compacted, ask, settings)


def compacted_at_once(ask: Ask, lane: Lane, settings: CompactionSettings | None) -> Compacted | None:
    """Return what ``compacted`` does, for who holds nobody up. What is known by its facts alone stays as it is."""
    return _compacted(ask, settings) if settings is not None and _applies(ask, lane, settings) else None


def may_help(ask: Ask, settings: Settings) -> bool:
    """Tell whether compaction may decide on a route: some economy route does not hold all of a request."""
    compaction = settings.policy.compaction
    if compaction is None or not _may_be_over(ask, compaction):
        return False
    return any(route.tier is Tier.ECONOMY and not holds(route, ask.prompt_tokens) for route in settings.routes)


def with_economy(facts: Facts, short: Compacted | None) -> Facts:
    """Return the facts of a request of which economy is asked less, where compaction ``may_help``."""
    return replace(facts, economy_tokens=short.ask.prompt_tokens) if short is not None else facts


def _applies(ask: Ask, lane: Lane, settings: CompactionSettings) -> bool:
    return _may_be_over(ask, settings) and lane in _LANES and bool(ask.fields)


def _may_be_over(ask: Ask, settings: CompactionSettings) -> bool:
    return ask.prompt_tokens > settings.over * _NEARLY


def _compacted(ask: Ask, settings: CompactionSettings) -> Compacted | None:
    found = compact(ask.fields, over=settings.over, to=settings.to, keep_turns=settings.keep_turns)
    if found is None:
        return None
    left = min(found.tokens, ask.prompt_tokens)
    saved = ask.prompt_tokens - left
    return Compacted(
        ask=replace(ask, fields={**ask.fields, "messages": found.messages}, prompt_tokens=left),
        figures=Compaction(saved_tokens=saved, prompt_tokens=ask.prompt_tokens, messages=found.changed),
    )
