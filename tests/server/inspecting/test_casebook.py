"""A table of cases: what is wrong in it, what is completed, and how a case compares."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from flatfee.server.configuration import SettingsError, parse_values, validated
from flatfee.server.inspecting.casebook import Casebook, Outcome, read_casebook, try_case
from flatfee.server.settings import Settings

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
CONFIG = """
providers = [{name = "sim", kind = "simulated"}]
routes = [
    {name = "first", provider = "sim", model = "large", tier = "premium", context_tokens = 100000, weight = 3},
    {name = "second", provider = "sim", model = "larger", tier = "premium", context_tokens = 200000},
    {name = "thrifty", provider = "sim", model = "small", tier = "economy", capabilities = ["tools"]},
]
plans = [
    {name = "pro", fair_use = 100000, output_reserve = 1000, continuation_limit = 50000},
    {name = "free", fair_use = 1000, continuation = false},
]
accounts = [{name = "acme", plan = "pro", billing_day = 15, projects = [{name = "ci"}]}]
aliases = {"gpt-5" = "premium"}
"""
TIMED = """
[[policy.rules]]
name = "nights"
when = {hours = ["22:00-06:00"]}
tier = "economy"
reason = "default"
[[policy.rules]]
name = "acmes"
when = {account = ["acme"], project = ["ci"]}
tier = "premium"
reason = "default"
"""


def settings(more: str = "") -> Settings:
    return parse_values(CONFIG + more, "flatfee.toml", {})


def outcome(request: str, expect: str, more: str = "", config: str = "") -> Outcome:
    made = settings(config)
    text = f'[[cases]]\nname = "it"\nrequest = {{{request}}}\nexpect = {{{expect}}}\n{more}'
    return try_case(read_casebook(text, "cases.toml", made).cases[0], made, NOW)


def problems(text: str, config: str = "") -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read_casebook(text, "cases.toml", settings(config))
    return list(caught.value.problems)


WELL = {
    "lane and reason": ("context = 5000", 'lane = "premium", reason = "default", tier = "premium"'),
    "route and model": ("context = 5000", 'route = "first", model = "large"'),
    "figures": ("context = 5000, output = 10", "units = 5040, prompt_tokens = 5000, output_tokens = 10"),
    "choices": ("context = 5000, output = 10, choices = 2", "output_tokens = 20"),
    "what follows": ("context = 5000", 'then = ["second", "thrifty"]'),
    "each failure": (
        "context = 5000",
        'on_failure = {context_overflow = "second", content_refused = false, fair_use_exhausted = "thrifty"}',
    ),
    "who cannot": ("context = 5000, json_schema = true", 'ineligible = ["thrifty"]'),
    "an alias": ('context = 5, model = "gpt-5"', 'reason = "requested"'),
    "an error": ('context = 300000, model = "premium"', 'error = "invalid_request"'),
    "no such model": ('context = 5, model = "gpt-6"', 'error = "model_not_found"'),
    "a rule": ('context = 5000, reasoning_effort = "high"', 'rule = "fragile_reasoning"'),
    "a schema": ('context = 5000, json_schema = true, model = "economy"', 'error = "invalid_request"'),
    "a tool loop": ('context = 5, tool_loop_route = "second"', 'route = "second", reason = "workflow_affinity"'),
    "a body": ('body = {messages = [{role = "user", content = "x"}], max_tokens = 9}', "output_tokens = 9"),
    "a body with a task": ('task = "plan", body = {messages = [{role = "user", content = "x"}]}', 'lane = "premium"'),
    "no body at all": ("body = {messages = 1}", 'error = "invalid_request"'),
}


@pytest.mark.parametrize(("request_", "expect"), WELL.values(), ids=WELL)
def test_what_is_as_expected_is_well(request_: str, expect: str) -> None:
    assert outcome(request_, expect).differences == ()


@pytest.mark.parametrize(
    ("account", "expect"),
    [
        ("left = 0", 'lane = "continuation", reason = "fair_use_exhausted"'),
        ("used = 99999", 'lane = "continuation"'),
        ("left = 0, continuation_used = 50000", 'error = "fair_use_exhausted"'),
        ('billing = "past_due"', 'reason = "billing_state"'),
        ('billing = "cancelled"', 'error = "billing_inactive"'),
        ('plan = "free", left = 0.29', 'error = "fair_use_exhausted"'),
        ('name = "other", plan = "pro"', 'lane = "premium"'),
    ],
)
def test_the_account_may_stand_otherwise(account: str, expect: str) -> None:
    assert outcome('context = 5000, model = "premium"', expect, f"account = {{{account}}}").differences == ()


def test_a_tool_loop_is_told_too_where_the_billing_state_leaves_one_lane() -> None:
    expect = 'lane = "continuation", reason = "billing_state", rule = "workflow_affinity"'
    assert outcome('context = 5, tool_loop_route = "thrifty"', expect, 'account = {billing = "past_due"}').well


def test_routes_that_are_down_are_skipped() -> None:
    expect = 'route = "second", lane = "fallback", skipped = ["first"]'
    assert outcome("context = 5000", expect, 'down = ["first"]').well
    everything = 'down = ["first", "second", "thrifty"]'
    assert outcome("context = 5000", 'error = "fallback_exhausted"', everything).well
    assert [each.what for each in outcome("context = 5000", 'route = "first"', everything).differences] == ["error"]


def test_the_time_is_the_policys_own_where_it_says_no_offset() -> None:
    zone = '[policy]\ntimezone = "America/New_York"\n' + TIMED
    for at, rule in (("2026-11-25T23:00:00", "nights"), ("2026-11-25T23:00:00Z", "acmes")):
        assert outcome("context = 5", f'rule = "{rule}"', f"at = {at}", zone).well


def test_what_differs_is_told_and_nothing_else_is_compared() -> None:
    found = outcome("context = 5000", 'lane = "budget", route = "first", then = ["second"]')
    assert [(each.what, each.expected, each.got) for each in found.differences] == [
        ("lane", "budget", "premium"),
        ("then", ("second",), ("second", "thrifty")),
    ]
    refused = outcome('context = 5, model = "gpt-6"', 'lane = "budget"')
    assert [(each.what, each.expected, each.got) for each in refused.differences] == [
        ("error", None, "model_not_found")
    ]
    assert "There is no model 'gpt-6'" in refused.answer["message"]


def test_what_a_refused_request_cannot_have_is_told() -> None:
    found = outcome('context = 5, model = "gpt-6"', 'error = "model_not_found", lane = "premium"')
    assert [(each.what, each.expected, each.got) for each in found.differences] == [("lane", "premium", None)]


def test_what_compaction_leaves_out_can_be_expected() -> None:
    run = ", ".join(
        f"""{{role = "assistant", tool_calls = [{{id = "{n}", function = {{name = "read_file"}}}}]}},
        {{role = "tool", tool_call_id = "{n}", content = "{n}{"word " * 800}"}}"""
        for n in range(6)
    ).replace("\n", " ")
    compaction = "[policy.compaction]\nover = 2000\nto = 1500\n"
    body = f'body = {{model = "economy", messages = [{{role = "user", content = "x"}}, {run}]}}'
    found = outcome(body, 'lane = "budget", saved_tokens = 1', config=compaction)
    [difference] = found.differences
    assert difference.what == "saved_tokens"
    assert found.answer["estimate"]["saved_tokens"] == difference.got


def test_defaults_complete_what_a_case_does_not_say() -> None:
    text = """
    [defaults]
    request = {context = 5000, tools = true}
    account = {used = 99999}
    at = 2026-11-25T23:00:00Z
    down = ["first"]
    [[cases]]
    name = "as usual"
    request = {}
    expect = {lane = "budget", rule = "nights"}
    [[cases]]
    name = "not as usual"
    request = {context = 6000}
    account = {used = 0}
    at = 2026-11-25T12:00:00Z
    down = []
    expect = {route = "first", prompt_tokens = 6000}
    """
    made = settings(TIMED)
    assert [try_case(case, made, NOW).differences for case in read_casebook(text, "c", made).cases] == [(), ()]


def test_a_case_may_say_in_another_way_what_the_defaults_say() -> None:
    text = """
    [defaults]
    request = {context = 5000, tools = true, task = "plan"}
    account = {left = 0}
    [[cases]]
    name = "a body, and units"
    request = {body = {messages = [{role = "user", content = "x"}]}}
    account = {used = 0}
    expect = {lane = "premium", rule = "fragile_reasoning", units = 4008}
    """
    made = settings()
    found = [try_case(case, made, NOW) for case in read_casebook(text, "c", made).cases]
    assert [each.differences for each in found] == [()]
    facts = text.replace("{context = 5000, tools = true, ", "{body = {messages = 1}, ").replace(
        '{body = {messages = [{role = "user", content = "x"}]}}', "{context = 8}"
    )
    assert try_case(read_casebook(facts, "c", made).cases[0], made, NOW).differences == ()


CASE: dict[str, Any] = {"name": '"it"', "request": "{context = 5}", "expect": '{lane = "budget"}'}
WRONG = {
    "no context": ({"request": "{}"}, "cases[0].request: needs context, the tokens of its prompt; or a body"),
    "both": ({"request": "{body = {}, context = 5}"}, "cases[0].request: context is a part of the body"),
    "unknown key": (
        {"request": "{context = 5, tool = true}"},
        "cases[0].request.tool: unknown key; did you mean 'tools'",
    ),
    "unknown task": (
        {"request": '{context = 5, task = "cook"}'},
        "cases[0].request.task: unknown value 'cook'; use 'plan'",
    ),
    "no workflow": ({"request": '{context = 5, workflow = "a b"}'}, "'a b' is no workflow; use 1 to 128 of"),
    "no expectation": ({"expect": "{}"}, "cases[0].expect: expects nothing; say what is to be compared"),
    "unknown lane": ({"expect": '{lane = "fast"}'}, "cases[0].expect.lane: unknown value 'fast'; use 'premium'"),
    "unknown failure": ({"expect": '{on_failure = {rain = "x"}}'}, "cases[0].expect.on_failure.rain"),
    "next is true": ({"expect": "{on_failure = {provider_error = true}}"}, "on_failure.provider_error"),
    "no name": ({"name": '""'}, "cases[0].name: '' is not possible"),
    "used and left": ({"account": "{used = 1, left = 0.5}"}, "has both used and left, which say the same"),
    "long ago": ({"at": "0001-01-01T00:00:00Z"}, "cases[0].at: the year 1 is too far away; use one from 1970 to 2999"),
    "far ahead": ({"at": "9999-12-31T10:00:00"}, "cases[0].at: the year 9999 is too far away"),
    "down": ({"down": '["frist"]'}, "cases[0].down[0]: there is no 'frist'; use one of: first, second, thrifty"),
    "loop": (
        {"request": '{context = 5, tool_loop_route = "x"}'},
        "cases[0].request.tool_loop_route: there is no 'x'; use one of: first",
    ),
    "no loop": (
        {"request": '{tool_loop_route = "first", workflow = "w", body = {messages = [{role = "user"}]}}'},
        "cases[0].request: tool_loop_route is where a tool loop is open, and the body's last message is no result",
    ),
    "a loop of no workflow": (
        {"request": '{tool_loop_route = "first", body = {messages = [{role = "tool", content = "x"}]}}'},
        "cases[0].request: tool_loop_route needs a workflow",
    ),
    "plan": ({"account": '{plan = "gold"}'}, "cases[0].account.plan: there is no 'gold'; use one of: pro, free"),
    "no plan": (
        {"account": '{name = "new"}'},
        "cases[0].account.plan: is missing, and there are several; use one of: pro",
    ),
}


@pytest.mark.parametrize(("change", "told"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_in_a_case_is_named_with_its_cure(change: dict[str, str], told: str) -> None:
    lines = [f"{name} = {value}" for name, value in (CASE | change).items()]
    assert any(told in problem for problem in problems("\n".join(["[[cases]]", *lines])))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cases = []", "cases: needs at least one entry"),
        ("case = 1", "case: unknown key; did you mean 'cases'?"),
        ("cases = [1]", "cases[0]: 1 is not possible; write a table"),
        ("defaults = {reqest = {}}\ncases = []", "defaults.reqest: unknown key; did you mean 'request'?"),
        ("cases = [", "is not TOML"),
        ("cases = " + "[" * 5000, "is nested too deeply"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_its_cure(text: str, told: str) -> None:
    assert any(told in problem for problem in problems(text))


def test_a_case_says_when_it_is_where_a_rule_asks() -> None:
    lines = "\n".join(["[[cases]]", *(f"{name} = {value}" for name, value in CASE.items())])
    assert problems(lines, TIMED) == [
        "cases[0].at: is missing, and a rule asks for the time; add it, such as at = 2026-11-28T23:00:00"
    ]


def test_a_file_has_a_bound() -> None:
    case = {"name": "it", "request": {"context": 5}, "expect": {"units": 1}}
    with pytest.raises(SettingsError, match="cases: has more than 10000 entries; leave some out"):
        validated(Casebook, {"cases": [case] * 10_001}, "cases.toml")
