"""A receipt as the gateway writes it is, byte for byte, the one that a ``Receipt`` of the same figures writes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from flatfee.receipt import Attempt, Compaction, FairUse, Receipt, TokenUsage, WorkflowState
from flatfee.server.statement import NotedAttempt, Statement, UsedTokens, rfc3339
from flatfee.server.store import ledger
from flatfee.server.store.entries import as_json
from flatfee.server.store.records import Settlement, Standing
from flatfee.wire import AttemptOutcome, Lane, Reason, ReceiptState, Tier

_WORDS = st.text(st.characters(codec="utf-8"), max_size=8)
_COUNTS = st.integers(0, 2**53)
_MAYBE = st.none() | _COUNTS
_TOKENS = st.builds(UsedTokens, prompt_tokens=_MAYBE, completion_tokens=_MAYBE, cached_tokens=_MAYBE)
_TRIES = st.builds(
    NotedAttempt,
    route=_WORDS,
    outcome=st.sampled_from(AttemptOutcome),
    status=_MAYBE,
    duration_ms=_COUNTS,
    first_token_ms=_MAYBE,
)
_STATEMENTS = st.builds(
    Statement,
    request_id=_WORDS,
    lane=st.sampled_from(Lane),
    reason=st.sampled_from(Reason),
    state=st.sampled_from(ReceiptState),
    model_requested=_WORDS,
    model_served=st.none() | _WORDS,
    route=st.none() | _WORDS,
    tier=st.none() | st.sampled_from(Tier),
    usage=st.none() | _TOKENS,
    compaction=st.none() | st.builds(Compaction, saved_tokens=_COUNTS, prompt_tokens=_COUNTS, messages=_COUNTS),
    attempts=st.lists(_TRIES, max_size=2).map(tuple),
    created_at=st.integers(0, 2**42).map(lambda at: ledger.moment(at / 1000)),
)
_STANDINGS = st.builds(
    Standing,
    unit=st.sampled_from(["token", "request"]),
    remaining=_COUNTS,
    limit=_COUNTS,
    resets_at=st.integers(0, 2**33),
    workflows_active=_COUNTS,
    workflows_limit=_COUNTS,
)


def told(part: msgspec.Struct) -> dict[str, Any]:
    """Return what a part tells: in a try, also that no status came."""
    always = {"status"} if isinstance(part, NotedAttempt) else set()
    values = {name: getattr(part, name) for name in part.__struct_fields__}
    return {name: value for name, value in values.items() if value is not None or name in always}


def receipt_of(statement: Statement) -> Receipt:
    """Return the same as a ``Receipt`` that is made in the usual way."""
    facts = told(statement)
    facts["attempts"] = tuple(Attempt(**told(attempt)) for attempt in statement.attempts or ())
    if statement.usage is not None:
        facts["usage"] = TokenUsage(**told(statement.usage))
    return Receipt(**facts)


@settings(max_examples=30)
@given(_STATEMENTS)
def test_a_statement_is_written_as_a_receipt_is(statement: Statement) -> None:
    assert as_json(statement) == as_json(receipt_of(statement))


@settings(max_examples=30)
@given(_STATEMENTS, st.none() | _WORDS, _STANDINGS, _COUNTS)
def test_so_are_the_figures_of_the_ledger(
    statement: Statement, workflow: str | None, standing: Standing, charged: int
) -> None:
    fair_use = FairUse(
        unit=standing.unit,
        charged=charged,
        remaining=standing.remaining,
        limit=standing.limit,
        resets_at=datetime.fromtimestamp(standing.resets_at, UTC),
    )
    state = {"id": workflow} if workflow is not None else {}
    slots = WorkflowState(active=standing.workflows_active, limit=standing.workflows_limit, **state)
    expected = receipt_of(statement).model_copy(update={"fair_use": fair_use, "workflow": slots})
    completed = statement.completed(workflow, standing, charged)
    assert as_json(completed) == as_json(expected)
    assert Settlement(json=as_json(completed)).receipt == expected


@settings(max_examples=30)
@given(_STATEMENTS)
def test_of_a_reduced_one_no_models_routes_attempts_or_workflow_are_left(statement: Statement) -> None:
    kept = set(msgspec.json.decode(statement.figures().json()))
    assert kept <= {"request_id", "lane", "reason", "state", "tier", "fair_use", "usage", "compaction", "created_at"}


def test_a_moment_is_told_in_utc_to_the_second() -> None:
    assert rfc3339(1_793_534_400.9) == "2026-11-01T12:00:00Z"
