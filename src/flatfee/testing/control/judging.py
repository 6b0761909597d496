"""Endpoints for what a test asks at its end: the journal, and the verdict on the client."""

from __future__ import annotations

import time
from typing import Annotated, Any, Final

from pydantic import Field

from flatfee.testing.control.endpoint import Endpoint, Form, Json, Visit, listed
from flatfee.testing.judging.checks.base import Limits
from flatfee.testing.judging.journal import Journal

_LONGEST: Final = 50.0
"""Real seconds that a request may wait: clients and what is between are seldom more patient."""

_LOOKS_EVERY: Final = 0.25


class _Look(Form):
    """How to look: with prompts and answers, once there are so many requests, at most so many real seconds later."""

    bodies: bool = False
    wait_for: int | None = Field(default=None, ge=1)
    timeout: float = Field(default=10.0, gt=0, le=_LONGEST)


class _Limits(Limits):
    """The limits of a verdict, which waits for streams to end only as long as a request may last."""

    settle: Annotated[float, Field(ge=0, le=_LONGEST)] = 1.0


def _journal(visit: Visit[_Look]) -> Json:
    look = visit.body
    journal = visit.gateway.journal if look.wait_for is None else _once_ended(visit, look.wait_for)
    return listed(journal.to_json(bodies=look.bodies), text=journal.text(bodies=look.bodies))


def _once_ended(visit: Visit[_Look], count: int) -> Journal:
    """Wait for so many requests, and look now and then whether somebody still waits for the answer."""
    end = time.monotonic() + visit.body.timeout
    while not visit.over.is_set():
        left = end - time.monotonic()
        try:
            return visit.gateway.journal.wait_for(count, timeout=min(left, _LOOKS_EVERY))
        except TimeoutError:
            if left <= _LOOKS_EVERY:
                break
    journal = visit.gateway.journal
    ended = sum(entry.ended is not None for entry in journal)
    message = f"After {visit.body.timeout:g} seconds {ended} of {count} requests have come to an end:\n{journal.text()}"
    raise TimeoutError(message)


def _verdict(visit: Visit[_Limits]) -> Json:
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
    Endpoint("GET", "/journal", "What the gateway was asked, and what became of it.", _journal, _Look, waits=True),
    Endpoint("POST", "/verdict", "Judge the client by that.", _verdict, _Limits, waits=True),
    Endpoint("GET", "/unmatched", "What a strict script had no rule for.", _matched, Form),
)
