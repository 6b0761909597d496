"""Every row of the failure table, played by the double and asserted from the client's side.

What must come of a row is what came of it on raw sockets (``tests.faults.rows``): the same attempts, the same error.
Three callers take turns: ``flatfee.Client``, ``flatfee.AsyncClient`` and openai-python.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import openai
import pytest
from tests.faults.rows import TABLE
from tests.faults.scenario import FIRST, OTHER
from tests.faults.table import Company, Expected, Row, Verdict
from tests.testing.faults.played_rows import ON_SOCKETS_ONLY, PLAYED
from tests.testing.faults.row_runs import Heard, Place, Places, all_places, ask, texts_of

import flatfee
from flatfee.errors import CODE_CLASSES
from flatfee.receipt import Receipt
from flatfee.testing import ScriptedGateway
from flatfee.wire import ERRORS, AttemptOutcome, Reason

pytestmark = pytest.mark.slow
"""It goes through many cases; ``make check`` has the time."""

_REASONS: Final = {
    AttemptOutcome.TIMEOUT: Reason.PROVIDER_TIMEOUT,
    AttemptOutcome.ERROR: Reason.PROVIDER_ERROR,
    AttemptOutcome.RATE_LIMITED: Reason.PROVIDER_RATE_LIMITED,
    AttemptOutcome.UNAVAILABLE: Reason.PROVIDER_UNAVAILABLE,
    AttemptOutcome.CONTEXT_OVERFLOW: Reason.CONTEXT_OVERFLOW,
}
"""How the first try ended → why another route answered."""

ROWS: Final = [row for row in TABLE if row.name not in ON_SOCKETS_ONLY]


@pytest.fixture(scope="module")
def places() -> Iterator[Places]:
    with all_places() as places:
        yield places


def test_every_row_has_a_fault_or_a_reason() -> None:
    """The table of the provider's failures is covered, and nothing is listed that it does not have."""
    names = {row.name for row in TABLE}
    by_shape = {f"{row.name}-{shape}": row.name for row in TABLE for shape in row.shapes if row.name not in PLAYED}
    played = {by_shape.get(name, name) for name in PLAYED}
    assert names - played == set(ON_SOCKETS_ONLY)
    assert played <= names


@pytest.mark.parametrize("row", ROWS, ids=[row.key for row in ROWS])
def test_a_row(row: Row, places: Places) -> None:
    """What a client gets, alone and beside another route, plain and streamed, is what it gets on sockets."""
    wrongs = [
        f"{company}, {shape}: {wrong}"
        for company in row.expects
        for shape in row.shapes
        for wrong in run(row, company, shape, places[company])
    ]
    assert wrongs == []


def run(row: Row, company: Company, shape: str, place: Place) -> list[str]:
    heard = ask(row, company, shape, place)
    expected = row.expects[company]
    return [
        *wrongs_of(row, expected, heard),
        *pauses_wrongs(row, place.gateway),
        *money_wrongs(row, expected, place.gateway),
    ]


def money_wrongs(row: Row, expected: Expected, gateway: ScriptedGateway) -> Iterator[str]:
    """Say what is wrong with the bill: an answer is charged, and a failure is not."""
    told = gateway.account.usage.fair_use
    used = (told.used if told is not None else None) or 0
    charged = expected.verdict is not Verdict.CLEAN_ERROR or row.charged_when_cut
    if (used > 0) is not charged:
        yield f"{used} units were charged"
    if gateway.workflows.active:
        yield f"slots are held: {gateway.workflows.active}"


def pauses_wrongs(row: Row, gateway: ScriptedGateway) -> Iterator[str]:
    """Say where a route was asked again too early; time was skipped, and yet it went by."""
    tries = [tried.at for tried in gateway.journal.last.tried if tried.route == FIRST]
    for earlier, later in pairwise(tries):
        if later - earlier < row.gap - 0.02:
            yield f"asked again after {later - earlier:.2f} s, before {row.gap} s"


def wrongs_of(row: Row, expected: Expected, heard: Heard) -> Iterator[str]:
    if heard.receipt is None and not isinstance(heard.error, openai.APIError):
        yield "no receipt"
    if heard.receipt is not None:
        yield from attempts_wrongs(expected, heard.receipt)
    if expected.verdict is Verdict.CLEAN_ERROR:
        yield from error_wrongs(row, expected, heard)
    elif heard.error is not None:
        yield f"raised {heard.error!r}"
    else:
        yield from answer_wrongs(row, expected, heard)


def attempts_wrongs(expected: Expected, receipt: Receipt) -> Iterator[str]:
    wanted = [(FIRST, told) for told in expected.attempts] + [(OTHER, told) for told in expected.others]
    had = [
        (attempt.route, f"{attempt.outcome} {attempt.status}" if attempt.status else str(attempt.outcome))
        for attempt in receipt.attempts or ()
    ]
    if len(had) != len(wanted) or not all(
        route == wish[0] and (told == wish[1] or told.split()[0] == wish[1])
        for (route, told), wish in zip(had, wanted, strict=True)
    ):
        yield f"the attempts {had}, not {wanted}"


def error_wrongs(row: Row, expected: Expected, heard: Heard) -> Iterator[str]:
    error = heard.error
    if not isinstance(error, flatfee.APIError | openai.APIError):
        yield f"no error, and the text {heard.texts}"
        return
    if expected.codes and error.code not in expected.codes:
        yield f"the code {error.code}, not one of {expected.codes}"
    status = getattr(error, "status_code", None)
    if expected.status is not None and not heard.texts and status not in {None, expected.status}:
        yield f"the status {status}, not {expected.status}"
    if not any(text.startswith(heard.texts.get(0, "")) for text in texts_of(row)):
        yield f"what was delivered is no part of one answer: {heard.texts}"
    if isinstance(error, flatfee.APIError):
        yield from our_error_wrongs(error, heard)


def our_error_wrongs(error: flatfee.APIError, heard: Heard) -> Iterator[str]:
    rule = ERRORS.get(error.code or "")
    if rule is not None and type(error) is not CODE_CLASSES[flatfee.ErrorCode(error.code or "")]:
        yield f"{type(error).__name__} for {error.code}"
    if error.retryable is not (rule is not None and rule.retryable):
        yield f"retryable is {error.retryable}"
    if error.partial != heard.texts.get(0, ""):
        yield f"partial is {error.partial!r}, and {heard.texts} came"


def answer_wrongs(row: Row, expected: Expected, heard: Heard) -> Iterator[str]:
    receipt = heard.receipt
    if receipt is None:
        yield "no receipt in the answer"
        return
    if row.tools:
        return
    said = [text.encode("utf-16", "surrogatepass").decode("utf-16") for _, text in sorted(heard.texts.items())]
    if said != texts_of(row):
        yield f"the text {[text[:100] for text in said]}"
    if set(heard.finishes) != set(heard.texts):
        yield "no finish reason"
    rescued = bool(expected.others)
    first = expected.attempts[0].split()[0]
    lane = ("fallback", _REASONS[AttemptOutcome(first)]) if rescued else ("premium", "requested")
    if (receipt.lane, receipt.reason) != lane:
        yield f"the lane {receipt.lane} for {receipt.reason}, not {lane}"
    state = "estimated" if row.estimated and not rescued else "settled"
    if receipt.state != state:
        yield f"the state {receipt.state}, not {state}"
