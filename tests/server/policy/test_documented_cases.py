"""The tables of docs/guides/policy.md, row by row: what they say is what is decided."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flatfee.server.configuration import parse_settings
from flatfee.server.faults import Fault
from flatfee.server.gateway import terms_of
from flatfee.server.policy.facts import Facts
from flatfee.server.policy.plan import plan_routes
from flatfee.server.policy.rules import explain
from flatfee.server.policy.tables import Condition
from flatfee.server.settings import PolicySettings, Settings
from flatfee.server.store import ledger
from flatfee.server.store.records import Caller
from flatfee.wire import ERRORS, Billing, ErrorCode, OnExhausted, Reason, Task

PAGE = (Path(__file__).parents[3] / "docs" / "guides" / "policy.md").read_text("utf-8")
HEAD = "| request | account | lane | tier | reason | rule |"
FACTS = {"context": "prompt_tokens", "output": "output_tokens", "tool_loop": "tool_loop_route"}
"""What the page says in shorter words."""
KINDS: dict[str, Callable[[Any], object]] = {"task": Task, "on_exhausted": OnExhausted}


@dataclass(frozen=True, slots=True)
class Case:
    """A row: what is asked by whom, and the cells that tell what comes of it."""

    request: dict[str, Any]
    account: dict[str, Any]
    told: tuple[str, ...]
    policy: PolicySettings


def _settings() -> Settings:
    text = "\n".join(re.findall(r"^```toml.*?\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
    return parse_settings(text, source="policy.md", env={"OPENAI_API_KEY": "x"})


def _values(cell: str) -> dict[str, Any]:
    return tomllib.loads("\n".join(re.findall(r"`([^`]+)`", cell)))


def _cases(table: str, policy: PolicySettings) -> list[Case]:
    rows = table.split("\n\n", 1)[0].strip().splitlines()[1:]
    cells = [[cell.strip() for cell in row[1:-1].split("|")] for row in rows]
    return [
        Case(_values(request), _values(account), tuple(cell.replace("`", "") for cell in told), policy)
        for request, account, *told in cells
    ]


SETTINGS = _settings()
_, ours, built_in = PAGE.split(HEAD)
CASES = [*_cases(ours, SETTINGS.policy), *_cases(built_in, PolicySettings())]


def test_all_rows_are_read() -> None:
    assert len(CASES) == len([line for line in PAGE.splitlines() if re.match(r"\|.*\|.*\|.*\|.*\|.*\|.*\|$", line)]) - 4
    assert len(CASES) > 35


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.request}{case.account}")
def test_a_documented_case_is_what_is_decided(case: Case, facts: Callable[..., Facts], caller: Any) -> None:
    named = {FACTS.get(name, name): value for name, value in case.request.items()}
    words = {name: KINDS[name](named[name]) for name in KINDS.keys() & named.keys()}
    asked = facts(**{"project": "web", "fair_use_left": case.account.get("left", 1.0)} | named | words)
    who: Caller = caller(Billing(case.account.get("billing", "active")))
    assert decided(asked, who, case) == case.told


def decided(asked: Facts, who: Caller, case: Case) -> tuple[str, ...]:
    """Return lane, tier and reason of what the ledger would grant, or the error; and the rule that matched."""
    plan = SETTINGS.plans[0].model_copy(update={"continuation": case.account.get("continuation", True)})
    terms = terms_of(plan)
    balance = ledger.Balance(posted=round((1 - (asked.fair_use_left or 0.0)) * terms.fair_use))
    rule = explain(case.policy, asked)[-1].rule if asked.model == "auto" else ""
    try:
        found = plan_routes(asked, who, plan, case.policy, SETTINGS.ranks, frozenset(), lambda: 0.5)
    except Fault as fault:
        return (*refusal(fault.code), rule)
    if found.choices[0].offer.reason is Reason.WORKFLOW_AFFINITY:
        rule = ""
    index = ledger.first_fit([choice.offer for choice in found.choices], balance, terms)
    if index is None:
        return (*refusal(ErrorCode.FAIR_USE_EXHAUSTED), rule)
    choice = found.choices[index]
    return choice.offer.lane, choice.routes[0].tier, choice.offer.reason, rule


def refusal(code: ErrorCode) -> tuple[str, str, str]:
    return f"{ERRORS[code].status} {code}", "", ""


def test_every_condition_has_an_example_that_can_be_used() -> None:
    section = PAGE.split("\n## Conditions\n")[1].split("\n## ")[0]
    examples = re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)
    shown = [Condition.model_validate(tomllib.loads(example)) for example in examples]
    assert {name for condition in shown for name in condition.model_fields_set} == set(Condition.model_fields)
