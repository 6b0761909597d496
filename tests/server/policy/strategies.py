"""Facts, conditions, rules and routes by chance, for properties of the policy."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from flatfee.server.policy.facts import Facts
from flatfee.server.policy.tables import POLICY_REASONS, Condition, RuleSettings
from flatfee.server.settings import PolicySettings, RouteSettings
from flatfee.wire import OnExhausted, Task, Tier

YEARS = (datetime(2026, 1, 1), datetime(2028, 1, 1))  # noqa: DTZ001 - hypothesis adds the timezone itself
SIZES = st.sampled_from([1, 100, 1000, 1001, 60_000, 120_001])
"""Few, so that limits and what is limited meet."""

facts = st.builds(
    Facts,
    model=st.sampled_from(["auto", "auto", "premium", "economy"]),
    account=st.sampled_from(["acme", "other"]),
    project=st.none() | st.sampled_from(["ci", "web"]),
    workflow=st.none() | st.sampled_from(["nightly-1", "nightly-", "chat"]),
    at=st.datetimes(*YEARS, timezones=st.sampled_from([UTC, ZoneInfo("Asia/Tokyo")])),
    task=st.none() | st.sampled_from(Task),
    reasoning_effort=st.none() | st.sampled_from(["low", "high", "extreme"]),
    prompt_tokens=SIZES,
    output_tokens=st.none() | SIZES,
    choices=st.integers(1, 3),
    tools=st.booleans(),
    images=st.booleans(),
    json_schema=st.booleans(),
    on_exhausted=st.sampled_from(OnExhausted),
    fair_use_left=st.none() | st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    tool_loop_route=st.sampled_from([None, "r0", "r1", "r2", "gone"]),
    economy_tokens=st.none() | SIZES,
).filter(lambda facts: facts.economy_tokens is None or facts.economy_tokens <= facts.prompt_tokens)
_LISTS: dict[str, list[Any]] = {
    "task": [["plan"], ["chat", "plan"], list(Task)],
    "reasoning_effort": [["high"], ["high", "low"]],
    "context_over": [0, 1000, 120_000],
    "context_under": [1001, 2000, 200_000],
    "output_over": [0, 1000],
    "output_at_most": [1, 1001, 60_000],
    "tools": [True, False],
    "images": [True, False],
    "json_schema": [True, False],
    "workflow": [True, False, ["nightly-*"], ["nightly-1"], ["chat", "n*"]],
    "account": [["acme"], ["acme", "other"]],
    "project": [["ci"], ["ci", "web"]],
    "hours": [["22:00-06:00"], ["00:00-24:00"], ["08:00-12:00", "13:00-24:00"]],
    "days": [["sat", "sun"], ["mon"], ["sun"]],
    "fair_use_left_under": [0.2, 1.0],
    "fair_use_left_over": [0.0, 0.5],
}
conditions = st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in _LISTS.items()}).map(
    Condition.model_validate
)
few_conditions = (
    st.lists(st.sampled_from(sorted(_LISTS)), max_size=2, unique=True)
    .flatmap(lambda names: st.fixed_dictionaries({name: st.sampled_from(_LISTS[name]) for name in names}))
    .map(Condition.model_validate)
)
"""Of at most two keys: such are met, and imply one another, often enough."""

rules = st.builds(
    RuleSettings,
    when=few_conditions | conditions,
    tier=st.sampled_from(Tier),
    reason=st.sampled_from(POLICY_REASONS),
)
policies = st.builds(
    PolicySettings,
    rules=st.lists(rules, max_size=5).map(tuple),
    timezone=st.sampled_from(["UTC", "Europe/Berlin"]),
    economy_may_use_premium=st.booleans(),
)
routes = st.lists(
    st.fixed_dictionaries(
        {
            "tier": st.sampled_from(Tier),
            "priority": st.integers(0, 2),
            "weight": st.sampled_from([0.001, 1.0, 1000.0]),
            "context_tokens": st.sampled_from([None, None, 100, 60_000, 120_001]),
            "token_factor": st.sampled_from([1.0, 1.0, 1.3, 0.5]),
            "capabilities": st.sampled_from([None, None, None, (), ("tools",), ("images", "json_schema")]),
        }
    ),
    min_size=3,  # what lacks something is none for a request: often one or two are left, sometimes none
    max_size=5,
).map(
    lambda found: tuple(
        RouteSettings.model_validate({"name": f"r{index}", "provider": "p", "model": "m", **row})
        for index, row in enumerate(found)
    )
)
