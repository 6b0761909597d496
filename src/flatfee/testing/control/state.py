"""Endpoints for what a test sets: the account's allowance and use, workflow slots, routes, keys."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field, RootModel

from flatfee.testing.control.endpoint import Endpoint, Form, Json, Nothing, Visit, listed

_MOST_SLOTS: Final = 10_000
"""Slots that one request may hold."""


class _Changes(RootModel[dict[str, Any]]):
    """What is to change: the arguments of ``account.set``."""


class _Held(Form):
    """A workflow's id, or how many slots to hold."""

    hold: str | Annotated[int, Field(ge=1, le=_MOST_SLOTS)]


class _Route(Form):
    """What becomes of a route: its circuit, and whether its provider can be reached."""

    circuit: Literal["open", "closed"] | None = None
    seconds: float | None = Field(default=None, gt=0)
    down: bool | None = None


class _Key(Form):
    """Whose key it is, what it may ask for, and for how many seconds."""

    project: str | None = None
    account: str | None = None
    models: list[str] | None = None
    team: bool = False
    expires: float | None = Field(default=None, gt=0)


def _usage(visit: Visit[Any]) -> Json:
    return visit.gateway.account.usage.model_dump(mode="json", exclude_unset=True)


def _change(visit: Visit[_Changes]) -> Json:
    visit.gateway.account.set(**visit.body.root)
    return _usage(visit)


def _active(visit: Visit[Any]) -> Json:
    held = [lease.model_dump(mode="json", exclude_unset=True) for lease in visit.gateway.workflows.active]
    return listed(held)


def _hold(visit: Visit[_Held]) -> Json:
    visit.gateway.workflows.hold(visit.body.hold)
    return _active(visit)


def _release(visit: Visit[Nothing]) -> Json:
    visit.gateway.workflows.release(visit.names["id"])
    return _active(visit)


def _routes(visit: Visit[Any]) -> Json:
    return listed(_route(visit, name) for name in visit.gateway.routes)


def _route(visit: Visit[Any], name: str) -> Json:
    health = visit.gateway.routes[name].health
    return {
        "object": "route",
        "name": name,
        "circuit": health.circuit,
        "opens_in": health.opens_in,
        "failures_in_a_row": health.failures_in_a_row,
        "outcomes": dict(health.outcomes),
    }


def _change_route(visit: Visit[_Route]) -> Json:
    route, wanted = visit.gateway.routes[visit.names["name"]], visit.body
    if wanted.seconds is not None and wanted.circuit != "open":
        message = f"seconds is {wanted.seconds:g}; it says how long a circuit is open: send circuit 'open' too."
        raise ValueError(message)
    if wanted.circuit == "open":
        route.open(**({"seconds": wanted.seconds} if wanted.seconds is not None else {}))
    elif wanted.circuit == "closed":
        route.close()
    if wanted.down is not None:
        (route.down if wanted.down else route.up)()
    return _route(visit, visit.names["name"])


def _new_key(visit: Visit[_Key]) -> Json:
    return {"object": "key", "api_key": visit.gateway.new_key(**visit.body.model_dump())}


STATE: Final[tuple[Endpoint[Any], ...]] = (
    Endpoint("GET", "/account", "Allowance, use and limits, as GET /v1/usage tells them.", _usage, Nothing),
    Endpoint("PATCH", "/account", "Set allowance, use, limits or billing.", _change, _Changes),
    Endpoint("POST", "/keys", "Make a key, with its project and account.", _new_key, _Key),
    Endpoint("GET", "/workflows", "The workflows that hold a slot.", _active, Nothing),
    Endpoint("POST", "/workflows", "Hold slots.", _hold, _Held),
    Endpoint("DELETE", "/workflows/{id}", "Free a workflow's slot.", _release, Nothing),
    Endpoint("GET", "/routes", "The routes, and how they are.", _routes, Nothing),
    Endpoint("PATCH", "/routes/{name}", "Open or close a circuit; let a provider be down.", _change_route, _Route),
)
