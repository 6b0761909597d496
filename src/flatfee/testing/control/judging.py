"""Endpoints for what a test asks at its end: the journal, and the verdict on the client."""

from __future__ import annotations

from typing import Any, Final

from pydantic import Field

from flatfee.testing.control.endpoint import Endpoint, Form, Json, Visit
from flatfee.testing.judging.checks.base import Limits


class _Look(Form):
    """How to look: with prompts and answers, once there are so many requests, at most so many real seconds later."""

    bodies: bool = False
    wait_for: int | None = Field(default=None, ge=1)
    timeout: float = Field(default=10.0, gt=0, le=50.0)


def _journal(visit: Visit[_Look]) -> Json:
    look, journal = visit.body, visit.gateway.journal
    if look.wait_for is not None:
        journal = journal.wait_for(look.wait_for, timeout=look.timeout)
    return {"object": "list", "data": journal.to_json(bodies=look.bodies), "text": journal.text(bodies=look.bodies)}


def _verdict(visit: Visit[Limits]) -> Json:
    verdict = visit.gateway.verdict(**visit.body.model_dump())
    return {"object": "verdict", **verdict.to_json(), "text": verdict.text()}


def _matched(visit: Visit[Any]) -> Json:
    """Tell what a strict script had no rule for."""
    try:
        visit.gateway.assert_all_matched()
    except AssertionError as error:
        return {"object": "script", "matched": False, "text": str(error)}
    return {"object": "script", "matched": True, "text": ""}


JUDGING: Final[tuple[Endpoint[Any], ...]] = (
    Endpoint("GET", "/journal", "What the gateway was asked, and what became of it.", _journal, _Look),
    Endpoint("POST", "/verdict", "Judge the client by that.", _verdict, Limits),
    Endpoint("GET", "/unmatched", "What a strict script had no rule for.", _matched, Form),
)
