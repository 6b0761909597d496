"""Every endpoint of a gateway's control API: the tables of the modules beside this one, and what is left."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from flatfee.testing.control.endpoint import Endpoint, Form, Json, Nothing, Visit
from flatfee.testing.control.judging import JUDGING
from flatfee.testing.control.scripting import scripting
from flatfee.testing.control.state import STATE
from flatfee.testing.gateway import ScriptedGateway
from flatfee.version import __version__


def endpoints() -> Sequence[Endpoint[Any]]:
    """Return every endpoint of one gateway."""
    return (
        Endpoint("GET", "", "Where the gateway is, and its key.", _show, Nothing),
        Endpoint("POST", "/reset", "Be as at the start; the clock and the key stay.", _reset, Nothing),
        *scripting(),
        *STATE,
        Endpoint("GET", "/clock", "What time it is.", _tell_time, Nothing),
        Endpoint("POST", "/clock", "Let time go by.", _advance, _Advance),
        *JUDGING,
    )


def describe(gateway: ScriptedGateway) -> Json:
    """Return what a test needs to know of a gateway."""
    return {
        "object": "gateway",
        "version": __version__,
        "base_url": gateway.base_url,
        "api_key": gateway.api_key,
        "control_url": gateway.base_url.removesuffix("/v1") + "/_test",
        "now": gateway.now.isoformat(),
    }


def _show(visit: Visit[Nothing]) -> Json:
    return describe(visit.gateway)


def _reset(visit: Visit[Nothing]) -> Json:
    visit.gateway.reset()
    return describe(visit.gateway)


class _Advance(Form):
    """How far time goes: so many seconds, to a moment, or to the end of the account's billing window."""

    advance: float | None = Field(default=None, ge=0)
    advance_to: datetime | Literal["window_end"] | None = None


def _advance(visit: Visit[_Advance]) -> Json:
    gateway, wanted = visit.gateway, visit.body
    if (wanted.advance is None) == (wanted.advance_to is None):
        raise ValueError("Send advance (seconds), or advance_to (a moment with its zone, or 'window_end').")
    if wanted.advance is not None:
        gateway.advance(wanted.advance)
    elif isinstance(wanted.advance_to, datetime):
        gateway.advance_to(wanted.advance_to)
    else:
        gateway.advance_to_window_end()
    return _tell_time(visit)


def _tell_time(visit: Visit[Any]) -> Json:
    return {"object": "clock", "now": visit.gateway.now.isoformat()}
