"""Every endpoint of a gateway's control API: the tables of the modules beside this one, and what is left."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal

from pydantic import AwareDatetime, Field

from flatfee.testing.control.endpoint import Endpoint, Form, Json, Nothing, Visit
from flatfee.testing.control.judging import JUDGING
from flatfee.testing.control.scripting import Gates
from flatfee.testing.control.state import STATE
from flatfee.testing.control.troubles import Troubles
from flatfee.testing.gateway import ScriptedGateway
from flatfee.version import __version__

_LONGEST: Final = 1e9
"""Seconds that one request may let go by: 31 years. No date goes beyond the year 9999, and time never comes back."""


def endpoints() -> Sequence[Endpoint[Any]]:
    """Return every endpoint of one gateway."""
    gates, troubles = Gates(), Troubles()

    def reset(visit: Visit[Nothing]) -> Json:
        troubles.end()
        visit.gateway.reset()
        gates.forget()
        return describe(visit.gateway)

    return (
        Endpoint("GET", "", "Where the gateway is, and its key.", _show, Nothing),
        Endpoint("POST", "/reset", "Be as at the start; the clock and the key stay.", reset, Nothing),
        *gates.endpoints(),
        *STATE,
        *troubles.endpoints(),
        Endpoint("GET", "/clock", "What time it is.", _tell_time, Nothing),
        Endpoint("POST", "/clock", "Let time go by.", _advance, _Advance, waits=True),
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


class _Advance(Form):
    """How far time goes: so many seconds, to a moment, or to the end of the account's billing window."""

    advance: float | None = Field(default=None, ge=0, le=_LONGEST)
    advance_to: AwareDatetime | Literal["window_end"] | None = None


def _advance(visit: Visit[_Advance]) -> Json:
    gateway, wanted = visit.gateway, visit.body
    if (wanted.advance is None) == (wanted.advance_to is None):
        raise ValueError("Send advance (seconds), or advance_to (a moment with its zone, or 'window_end').")
    if wanted.advance is not None:
        gateway.advance(wanted.advance)
    elif isinstance(wanted.advance_to, datetime):
        if (wanted.advance_to - gateway.now).total_seconds() > _LONGEST:
            message = f"advance_to is {wanted.advance_to.isoformat()}; time goes on for 31 years at most at once."
            raise ValueError(message)
        gateway.advance_to(wanted.advance_to)
    else:
        gateway.advance_to_window_end()
    return _tell_time(visit)


def _tell_time(visit: Visit[Any]) -> Json:
    return {"object": "clock", "now": visit.gateway.now.isoformat()}
