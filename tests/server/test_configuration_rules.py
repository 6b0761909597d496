"""Mistakes in rules and aliases, as they are told at start."""

import logging

import pytest
from tests.server.test_configuration import BASE, parse, problems

RULE = '[[policy.rules]]\ntier = "premium"\nreason = "default"\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            RULE + "when = {context_over = 9, context_under = 9}\n",
            (
                "policy.rules[0].when.context_under: 9 leaves no number of tokens above context_over, 9; "
                "change one of them"
            ),
        ),
        (RULE + "when = {task = []}\n", "policy.rules[0].when.task: needs at least one entry"),
        (
            RULE + "when = {workflow = []}\n",
            "policy.rules[0].when.workflow: needs at least one entry; false asks for requests without a workflow",
        ),
        (
            RULE + 'when = {workflow = ["a*b"]}\n',
            (
                "policy.rules[0].when.workflow[0]: 'a*b' is no workflow: "
                "use 1 to 128 of A-Z a-z 0-9 . _ : -, with * at the end only"
            ),
        ),
        (
            RULE + 'when = {hours = ["22-6"]}\n',
            "policy.rules[0].when.hours[0]: '22-6' is not a span of hours; write one such as '22:00-06:00'",
        ),
        (
            RULE + 'when = {days = ["monday"]}\n',
            (
                "policy.rules[0].when.days[0]: unknown value 'monday'; "
                "use 'mon', 'tue', 'wed', 'thu', 'fri', 'sat' or 'sun'"
            ),
        ),
        (
            RULE + 'when = {task = ["think"]}\n',
            (
                "policy.rules[0].when.task[0]: unknown value 'think'; "
                "use 'plan', 'edit', 'review', 'final', 'chat' or 'summarize'"
            ),
        ),
        (
            RULE + "when = {fair_use_left_under = 20}\n",
            "policy.rules[0].when.fair_use_left_under: 20 is not possible: input should be less than or equal to 1",
        ),
        (
            '[policy]\ntimezone = "Berlin"\n',
            (
                "policy.timezone: 'Berlin' is no timezone that this machine knows; "
                "use an IANA name such as 'Europe/Berlin'"
            ),
        ),
        (
            2 * (RULE + 'name = "a"\nwhen = {tools = true}\n').replace("true", "false", 1) + RULE,
            "policy.rules[1].name: 'a' is taken by policy.rules[0]; choose another name",
        ),
        (
            RULE + "when = {context_ovr = 1}\n",
            "policy.rules[0].when.context_ovr: unknown key; did you mean 'context_over'?",
        ),
        (
            '[aliases]\nmini = "economy"\n',
            "aliases.mini: 'economy', and no route has this tier; add such a route, or change the alias",
        ),
        ('[aliases]\n"a*b" = "auto"\n', "aliases.a*b: * may stand at the end only; end the name there"),
    ],
)
def test_a_mistake_in_rules_and_aliases_is_told_with_key_value_and_cure(text: str, expected: str) -> None:
    assert expected in problems(BASE + text)


def test_a_doubtful_rule_is_accepted_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        parse(BASE + RULE + 'when = {account = ["acme"]}\n')
    (record,) = caplog.records
    assert record.message == "settings.doubtful"
    assert vars(record)["found"] == "policy.rules[0].when.account: 'acme' is not in this file"
