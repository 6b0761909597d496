"""An operator's table of cases for the policy: what is supposed, what is expected, and how the two compare. Pure.

The file is TOML: ``[[cases]]`` with ``request``, ``account``, ``at``, ``down`` and ``expect``, and ``[defaults]`` for
what cases do not say themselves. Only what a case expects is compared (docs/guides/policy-testing.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from pydantic import Field, model_validator

from flatfee.server.configuration import SettingsError, parse_toml, validated
from flatfee.server.faults import Fault
from flatfee.server.inspecting.inspection import as_json
from flatfee.server.inspecting.supposing import (
    IN_A_BODY,
    SupposedRequest,
    Supposition,
    name_problems,
    scene_of,
    suppose,
)
from flatfee.server.policy.foresee import Failure
from flatfee.server.settings import Settings
from flatfee.server.table import Table
from flatfee.wire import ErrorCode, Lane, Reason, Tier


class Expectation(Table):
    """What a case expects; only what is said is compared. Units and tokens are the gateway's estimates.

    ``then``, ``skipped`` and ``ineligible`` are names of routes; the last two are compared whatever their order.
    ``on_failure`` tells, by the failure, which route is asked next; ``false``: none.
    """

    lane: Lane | None = None
    reason: Reason | None = None
    tier: Tier | None = None
    route: str | None = None
    model: str | None = None
    rule: str | None = None
    units: int | None = None
    prompt_tokens: int | None = None
    saved_tokens: int | None = None
    output_tokens: int | None = None
    then: tuple[str, ...] | None = None
    skipped: frozenset[str] | None = None
    ineligible: frozenset[str] | None = None
    on_failure: dict[Failure, str | Literal[False]] | None = None
    error: ErrorCode | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Expectation:
        if not self.model_fields_set:
            raise ValueError("expects nothing; say what is to be compared, such as lane = 'premium'")
        return self


class Case(Supposition):
    """One case. Its ``name`` is told where it fails."""

    name: str = Field(min_length=1, max_length=200)
    request: SupposedRequest
    expect: Expectation


class Casebook(Table):
    """A file of cases. ``defaults`` are what a case has where it does not say otherwise, table by table."""

    defaults: Mapping[str, Any] = Field(default_factory=dict)
    cases: tuple[Case, ...] = Field(min_length=1, max_length=10_000)


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that is not as a case expects it."""

    what: str
    expected: object
    got: object


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a case came to: the answer of a dry run, or its ``error`` with a ``message``."""

    case: str
    differences: tuple[Difference, ...]
    answer: Mapping[str, Any]

    @property
    def well(self) -> bool:
        """Whether all is as expected."""
        return not self.differences


def read_casebook(text: str, source: str, settings: Settings) -> Casebook:
    """Read the text of a file of cases; ``source`` is named in errors.

    Raises:
        SettingsError: it is not TOML, or says something impossible, or names what the configuration does not have.
    """
    book = validated(Casebook, _completed(parse_toml(text, source), source), source)
    if problems := [problem for n, case in enumerate(book.cases) for problem in _problems(n, case, settings)]:
        raise SettingsError(source, problems)
    return book


class _Defaults(Table):
    """The tables that ``[defaults]`` may have; what they hold is checked in the cases they complete."""

    request: dict[str, Any] = Field(default_factory=dict)
    account: dict[str, Any] = Field(default_factory=dict)
    at: datetime | None = None
    down: tuple[str, ...] | None = None


class _Head(Table):
    defaults: _Defaults = _Defaults()
    cases: Any = None


def _completed(data: Mapping[str, Any], source: str) -> Mapping[str, Any]:
    """Put the defaults into the cases, key by key."""
    usual = validated(_Head, data, source).defaults
    cases = data.get("cases")
    if not isinstance(cases, list):
        return data
    return {**data, "cases": [_with(case, usual) if isinstance(case, dict) else case for case in cases]}


def _with(case: Mapping[str, Any], usual: _Defaults) -> Mapping[str, Any]:
    told: dict[str, Any] = {name: value for name, value in (("at", usual.at), ("down", usual.down)) if value}
    told |= case
    for name, table in (("request", usual.request), ("account", usual.account)):
        given = case.get(name, {})
        if table and isinstance(given, dict):
            told[name] = _without_others(table, given) | given
    return told


_INSTEAD: Final = (
    (frozenset({"body"}), IN_A_BODY),
    (frozenset({"used"}), frozenset({"left"})),
)
"""What may be said in one way or in the other, but not in both."""


def _without_others(usual: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is usual, but for what a case says in another way."""
    others = [there for pair in _INSTEAD for here, there in (pair, pair[::-1]) if here & given.keys()]
    return {name: value for name, value in usual.items() if not any(name in other for other in others)}


def _problems(number: int, case: Case, settings: Settings) -> Iterator[str]:
    where = f"cases[{number}]."
    yield from name_problems(case, case.request.tool_loop_route, settings, where)
    if case.at is None and settings.policy.asks_for_time:
        yield f"{where}at: is missing, and a rule asks for the time; add it, such as at = 2026-11-28T23:00:00"


def try_case(case: Case, settings: Settings, now: datetime) -> Outcome:
    """Tell what a case comes to. ``now`` is the moment of cases that say none."""
    try:
        scene = scene_of(case, case.request.tool_loop_route, settings, now)
        answer: Mapping[str, Any] = as_json(suppose(case.request.ask(), scene, settings))
    except Fault as fault:
        answer = {"object": "route", "error": fault.code, "message": fault.message}
    return Outcome(case=case.name, differences=tuple(_differences(case.expect, answer)), answer=answer)


_PLAIN: Final = ("lane", "reason", "tier", "route", "model")
_LISTED: Final = ("skipped", "ineligible")


def _found(answer: Mapping[str, Any]) -> Mapping[str, object]:
    """Return what a dry run answered under the names that a case expects it by."""
    matched = (step["rule"] for step in answer.get("rules", ()) if step["matched"])
    follows = {each["failure"]: each["next"] or False for each in answer["on_failure"]}
    return {
        **{name: answer[name] for name in _PLAIN},
        **answer["estimate"],
        **{name: frozenset(out["route"] for out in answer[name]) for name in _LISTED},
        "rule": next(matched, None),
        "then": tuple(place["route"] for place in answer["then"]),
        **{f"on_failure.{failure}": route for failure, route in follows.items()},
    }


def _differences(expect: Expectation, answer: Mapping[str, Any]) -> Iterator[Difference]:
    error = answer.get("error")
    if expect.error != error:
        yield Difference("error", expect.error, error)
        if "route" not in answer:
            return  # what it would have come to otherwise, nobody knows
    found = _found(answer) if "route" in answer else {}
    told = {name: value for name, value in expect if name not in {"error", "on_failure"} and value is not None}
    told |= {f"on_failure.{failure}": route for failure, route in (expect.on_failure or {}).items()}
    for name, expected in told.items():
        if (got := found.get(name)) != expected:
            yield Difference(name, expected, got)
