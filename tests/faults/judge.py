"""The verdict on a run: what the caller may believe, what the ledger noted, and what the provider had to bear. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.faults.callers import Heard
from tests.faults.scenario import FIRST, GOODBYE, OTHER, PROVIDER_KEY, Run, charged
from tests.faults.speech import ARGUMENTS, OUTPUT_TOKENS, PROMPT_TOKENS, TEXT, TOOL
from tests.faults.table import Company, Expected, Row, Verdict
from tests.server.fakes import KEY

from flatfee.wire import ERRORS

PRICE: Final = PROMPT_TOKENS + 4 * OUTPUT_TOKENS
"""Units of an answer whose provider told its usage, by the default meter."""
_UNTYPED: Final = frozenset({"APIConnectionError", "APITimeoutError", "APIResponseValidationError", "StreamTruncated"})
"""What the clients raise where the gateway did not tell an error of its own."""
_REASONS: Final[Mapping[str, str]] = {
    "timeout": "provider_timeout",
    "error": "provider_error",
    "rate_limited": "provider_rate_limited",
    "unavailable": "provider_unavailable",
    "context_overflow": "context_overflow",
}
"""How the first try ended → why another route answered."""
_EARLY: Final = 0.02
"""Seconds by which a timer may ring before its time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict, and the broken promises that make it ``fail``."""

    verdict: Verdict
    wrongs: Sequence[str] = ()


def judge(run: Run) -> Judgement:
    """Judge a run by the promises that hold for every request, and by its row of the table."""
    expected = run.case.row.expects[run.case.company]
    heard = run.heard
    if heard is None:
        return Judgement(verdict=Verdict.FAIL, wrongs=["the caller was left hanging"])
    wrongs = [
        *_answer_wrongs(heard, run),
        *_money_wrongs(run, heard),
        *_attempt_wrongs(run, expected),
        *_provider_wrongs(run, heard),
    ]
    verdict = _verdict(run, heard)
    if not wrongs and verdict is not expected.verdict:
        wrongs = [f"{verdict}, not {expected.verdict}"]
    return Judgement(verdict=Verdict.FAIL if wrongs else verdict, wrongs=wrongs)


def _verdict(run: Run, heard: Heard) -> Verdict:
    if not heard.whole:
        return Verdict.CLEAN_ERROR
    mended = bool(run.case.row.mends) or len(_attempts(run)) > 1
    return Verdict.RESCUED if mended else Verdict.PASS


def _answer_wrongs(heard: Heard, run: Run) -> Iterator[str]:
    yield from heard.odd
    if heard.cut:
        yield "the response was cut"
    yield from _whole_wrongs(heard, run) if heard.whole else _error_wrongs(heard, run)
    if not heard.whole and not heard.texts and heard.headers:
        yield from _header_wrongs(heard)
    if len(heard.ids) > 1:
        yield f"one answer with several ids: {sorted(heard.ids)}"
    if heard.request_id is None and heard.receipt is None:
        yield "nothing tells the request's id"


def _whole_wrongs(heard: Heard, run: Run) -> Iterator[str]:
    row = run.case.row
    if heard.error:
        yield f"whole, and an error: {heard.error}"
    if not heard.finishes or set(heard.finishes) != set(heard.texts):
        yield "looks whole without a finish reason"
    if row.tools:
        if [tuple(call) for call in heard.tools.values()] != [(TOOL, ARGUMENTS)]:
            yield f"the wrong tool call: {heard.tools}"
    elif tuple(heard.texts[index] for index in sorted(heard.texts)) != tuple(row.texts):
        yield f"the wrong text: {_short(heard)}"
    if run.others and heard.roles > len(heard.texts):
        yield "a second role in one answer"
    if heard.receipt is None:
        yield "no receipt in the answer"


def _short(heard: Heard) -> str:
    return repr({index: text[:120] for index, text in heard.texts.items()})


def _error_wrongs(heard: Heard, run: Run) -> Iterator[str]:
    expected = run.case.row.expects[run.case.company]
    if heard.error is None:
        yield "cut, and no error told"
    elif heard.error in _UNTYPED:
        yield f"not an error of the gateway: {heard.error}"
    if expected.codes and heard.code not in expected.codes:
        yield f"the code {heard.code}, not {' or '.join(sorted(map(str, expected.codes)))}"
    begun = bool(heard.texts)
    if expected.status is not None and not begun and heard.status != expected.status:
        yield f"the status {heard.status}, not {expected.status}"
    if heard.done:
        yield "[DONE] after an error"
    if not run.case.row.tools and not any(text.startswith(heard.texts.get(0, "")) for text in run.case.row.texts):
        yield f"what was delivered is no part of one answer: {_short(heard)}"
    if not begun and heard.caller != "openai-python" and heard.receipt is None:
        yield "no receipt beside the error"


def _header_wrongs(heard: Heard) -> Iterator[str]:
    """Say what the headers of an error lack; a provider's own refusal has codes that our table does not know."""
    rule = ERRORS.get(str(heard.code))
    retry = "true" if rule is not None and rule.retryable else "false"
    if heard.headers.get("x-should-retry") != retry:
        yield f"x-should-retry is {heard.headers.get('x-should-retry')}, not {retry}"
    if retry == "true" and int(heard.headers.get("retry-after", 0)) < 1:
        yield "no Retry-After"


def _money_wrongs(run: Run, heard: Heard) -> Iterator[str]:
    receipt = run.receipt
    if run.receipts != 1 or receipt is None:
        yield f"{run.receipts} receipts for one request"
        return
    if run.used != charged(receipt):
        yield f"{run.used} units noted, {charged(receipt)} by the receipt"
    told = heard.receipt or {}
    for name in ("request_id", "state", "route", "attempts"):
        if told and name in told and told[name] != receipt.get(name):
            yield f"the caller was told {name} {told[name]}, the ledger {receipt.get(name)}"
    if not heard.whole:
        if charged(receipt) and not run.case.row.charged_when_cut:
            yield f"a failure was charged {charged(receipt)} units"
        return
    by = receipt["attempts"][-1]["route"] if receipt.get("attempts") else None
    if (receipt.get("route"), receipt.get("model_served")) != (by, by):
        yield f"the receipt names {receipt.get('route')}, and {by} answered"
    lane = ("fallback", _REASONS.get(_attempts(run)[0]["outcome"])) if by == OTHER else ("premium", "requested")
    if (receipt.get("lane"), receipt.get("reason")) != lane:
        yield f"the lane {receipt.get('lane')} for {receipt.get('reason')}, not {lane[0]} for {lane[1]}"
    state = "estimated" if run.case.row.estimated and by == FIRST else "settled"
    if receipt.get("state") != state:
        yield f"the state {receipt.get('state')}, not {state}"
    if state == "settled" and charged(receipt) != PRICE:
        yield f"charged {charged(receipt)} units, not {PRICE}"
    if not charged(receipt):
        yield "an answer for nothing"


def _attempts(run: Run) -> Sequence[Mapping[str, Any]]:
    return (run.receipt or {}).get("attempts") or ()


def _attempt_wrongs(run: Run, expected: Expected) -> Iterator[str]:
    listed = [(attempt["route"], attempt["outcome"], attempt.get("status")) for attempt in _attempts(run)]
    wanted = [
        *((FIRST, *_outcome(text)) for text in expected.attempts),
        *((OTHER, *_outcome(text)) for text in expected.others),
    ]
    if len(listed) != len(wanted) or not all(map(_matches, listed, wanted)):
        yield f"the attempts {_told(listed)}, not {_told(wanted)}"
    for attempt in _attempts(run):
        took, first = attempt.get("duration_ms"), attempt.get("first_token_ms")
        if took is None or (first is not None and first > took):
            yield f"an attempt of {took} ms whose first token came after {first} ms"
        if attempt["outcome"] == "ok" and first is None and run.case.shape == "stream":
            yield "a streamed answer without a first token"


def _told(attempts: Sequence[tuple[str, str, int | None]]) -> str:
    return ", ".join(" ".join(str(part) for part in attempt if part is not None) for attempt in attempts)


def _outcome(text: str) -> tuple[str, int | None]:
    outcome, _, status = text.partition(" ")
    return outcome, int(status) if status else None


def _matches(found: tuple[str, str, int | None], wanted: tuple[str, str, int | None]) -> bool:
    return found[:2] == wanted[:2] and (wanted[2] is None or found[2] == wanted[2])


def _provider_wrongs(run: Run, heard: Heard) -> Iterator[str]:
    row, expected = run.case.row, run.case.row.expects[run.case.company]
    arrived = len(expected.attempts) if row.provider == "url" else 0
    if len(run.tries) != arrived:
        yield f"{len(run.tries)} tries arrived, not {arrived}"
    if len(run.others) != len(expected.others):
        yield f"the other route was asked {len(run.others)} times, not {len(expected.others)}"
    for earlier, later in zip(run.tries, run.tries[1:], strict=False):
        if later.at - earlier.at < row.gap - _EARLY:
            yield f"asked again after {later.at - earlier.at:.2f} s, before {row.gap} s"
    if run.trapped:
        yield "a redirect was followed"
    if run.still_open:
        yield f"{run.still_open} calls were not ended"
    yield from (wrong for each in run.tries for wrong in _call_wrongs(each.gone_at, heard))
    yield from _request_wrongs(run, row)


def _call_wrongs(gone_at: float | None, heard: Heard) -> Iterator[str]:
    if gone_at is not None and gone_at - heard.at > GOODBYE:
        yield f"a call was ended {gone_at - heard.at:.1f} s after the answer"


def _request_wrongs(run: Run, row: Row) -> Iterator[str]:
    for each in (*run.tries, *run.others):
        if KEY.encode() in each.head or PROVIDER_KEY not in each.headers.get("authorization", ""):
            yield "the wrong key went to the provider"
        if each.stream is not (run.case.shape == "stream"):
            yield "the provider was asked for the wrong shape"
    if run.case.company is Company.PREFILL:
        last = run.others[0].body["messages"][-1] if run.others else {}
        given = str(last.get("content", ""))
        if last.get("role") != "assistant" or not given or not TEXT.startswith(given):
            yield f"who was to continue the text was given {last.get('role')} {given!r}"
