"""Every endpoint of the control API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from flatfee.testing.control.endpoint import Endpoint, Form, Json, Nothing, Visit
from flatfee.version import __version__


def describe(gateway: Any) -> Json:
    """Return what a test needs to know of a gateway."""
    return {
        "object": "gateway",
        "version": __version__,
        "base_url": gateway.base_url,
        "api_key": gateway.api_key,
        "control_url": f"http://{gateway.host}:{gateway.port}/_test",
        "now": gateway.now.isoformat(),
    }


def _show(visit: Visit[Nothing]) -> Json:
    return describe(visit.gateway)


class _Advance(Form):
    """How long time goes by, in seconds."""

    advance: float = Field(ge=0)


def _advance(visit: Visit[_Advance]) -> Json:
    visit.gateway.advance(visit.body.advance)
    return _tell_time(visit)


def _tell_time(visit: Visit[Any]) -> Json:
    return {"object": "clock", "now": visit.gateway.now.isoformat()}


def endpoints() -> Sequence[Endpoint[Any]]:
    """Return every endpoint of one gateway."""
    return (
        Endpoint("GET", "", "Where the gateway is, and its key.", _show, Nothing),
        Endpoint("GET", "/clock", "What time it is.", _tell_time, Nothing),
        Endpoint("POST", "/clock", "Let time go by.", _advance, _Advance),
    )
