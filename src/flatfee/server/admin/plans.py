"""Plans: as the configuration has them. They are changed there."""

from __future__ import annotations

from typing import Any, Final, Literal

from flatfee.server.admin.endpoint import Endpoint, ListOf, Nothing, Visit, listed
from flatfee.server.settings import PlanSettings


class PlanObject(PlanSettings):
    """What a flat fee buys per window: the plan's settings, as the configuration file may give them."""

    object: Literal["plan"]


async def _list_plans(visit: Visit[Nothing, Nothing]) -> ListOf[PlanObject]:
    plans = visit.gateway.settings.plans
    return listed([PlanObject.model_validate({"object": "plan", **plan.model_dump()}) for plan in plans])


ENDPOINTS: Final[tuple[Endpoint[Any, Any], ...]] = (
    Endpoint(
        method="GET",
        path="/plans",
        summary="List the configured plans.",
        handler=_list_plans,
        answers=ListOf[PlanObject],
    ),
)
