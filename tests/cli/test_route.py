"""``flatfee route``: the dry run, for people and for scripts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from flatfee.cli.demo.gateway import DemoGateway

if TYPE_CHECKING:
    from tests.cli.conftest import Flatfee


def words(text: str) -> str:
    return " ".join(text.split())


def test_lane_reason_route_and_what_comes_next_are_shown(flatfee: Flatfee, asks: dict[str, str]) -> None:
    shown = flatfee("route", "Hello", "--task", "plan", env=asks)
    assert shown.exit_code == 0
    told = words(shown.stdout)
    assert "It would be served on the premium lane by sim-large via north-premium" in told
    assert "because the task needs careful reasoning" in told
    assert "reason fragile_reasoning" in told
    assert "if that fails south-premium (fallback) north-economy (fallback) south-economy (fallback)" in told
    assert "at most 256 out" in told


def test_every_rule_that_was_looked_at_says_why_it_did_or_did_not_match(flatfee: Flatfee, asks: dict[str, str]) -> None:
    told = words(flatfee("route", "Hello", "--max-tokens", "20", env=asks).stdout)
    assert "fragile_reasoning no no task hint" in told
    assert "context_size no context is about" in told
    assert "small_task yes context is about" in told


def test_a_named_tier_has_no_rules(flatfee: Flatfee, asks: dict[str, str]) -> None:
    told = flatfee("route", "Hello", "--model", "economy", env=asks).stdout
    assert "budget" in told
    assert "Rules" not in told


def test_json_is_the_gateways_answer(flatfee: Flatfee, asks: dict[str, str]) -> None:
    shown = flatfee("route", "-", "--json", env=asks, typed="Hello")
    told = json.loads(shown.stdout)
    assert (told["object"], told["lane"], told["rules"][-1]) == (
        "route",
        "premium",
        {"rule": "default", "matched": True},
    )


def test_nothing_is_asked_and_nothing_is_charged(flatfee: Flatfee, asks: dict[str, str], gateway: DemoGateway) -> None:
    for _ in range(3):
        flatfee("route", "Hello", env=asks)
    assert [provider.calls for provider in gateway.providers.values()] == [[], []]
    assert "100,000 of 100,000" in flatfee("chat", "Hi", "--model", "economy", env=asks).stderr


def test_a_request_that_would_be_refused_says_so(flatfee: Flatfee, asks: dict[str, str]) -> None:
    shown = flatfee("route", "Hello", "--model", "gpt-9", env=asks)
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert "NotFoundError (model_not_found)" in shown.stderr
