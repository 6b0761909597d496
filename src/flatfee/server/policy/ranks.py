"""What can be said of the routes before any request comes: worked out once per configuration. Pure.

What a request may do with them is in ``plan``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flatfee.wire import Tier

if TYPE_CHECKING:
    from flatfee.server.settings import RouteSettings  # whose ``Settings`` keep these


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """The routes of one tier, by priority.

    ``drawn`` tells whether some are of equal priority, between which chance decides for each request; ``limited``
    whether one of them may lack something that a request needs. ``priced`` has one route for each price.
    """

    routes: tuple[RouteSettings, ...]
    priced: tuple[RouteSettings, ...]
    drawn: bool
    limited: bool

    @classmethod
    def of(cls, routes: Sequence[RouteSettings]) -> Rank:
        """Look at the routes of one tier."""
        prices = {(route.meter.input, route.meter.output, route.token_factor): route for route in routes}
        return cls(
            routes=tuple(sorted(routes, key=lambda route: route.priority)),
            priced=tuple(prices.values()),
            drawn=len({route.priority for route in routes}) < len(routes),
            limited=any(route.context_tokens is not None or route.capabilities is not None for route in routes),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """All routes in the order of the file, and those of each tier by priority."""

    routes: tuple[RouteSettings, ...]
    premium: Rank
    economy: Rank

    @classmethod
    def of(cls, routes: Sequence[RouteSettings]) -> Ranks:
        """Look at the routes of a configuration."""
        return cls(
            routes=tuple(routes),
            premium=Rank.of([route for route in routes if route.tier is Tier.PREMIUM]),
            economy=Rank.of([route for route in routes if route.tier is Tier.ECONOMY]),
        )
