"""What is shown of a dry run, the odd ones too."""

from __future__ import annotations

import io

from rich.console import Console

from flatfee import RoutePlan
from flatfee.cli.show_plan import print_plan


def shown(**told: object) -> str:
    console = Console(file=io.StringIO(), width=120)
    print_plan(console, RoutePlan.model_validate(told))
    assert isinstance(console.file, io.StringIO)
    return " ".join(console.file.getvalue().split())


def test_a_plan_with_little_in_it_is_shown_all_the_same() -> None:
    told = shown(lane="premium")
    assert "It would be served on the premium lane." in told
    assert told.endswith("nothing else")


def test_a_failure_tells_what_is_asked_next_and_how_it_may_end() -> None:
    follows = {"failure": "provider_error", "again": True, "next": "b", "lane": "fallback", "reason": "provider_error"}
    told = shown(on_failure=[follows | {"then_error": "fallback_exhausted"}, {"failure": "content_refused"}])
    assert "provider_error yes b (fallback) fallback_exhausted" in told
    assert "content_refused no nobody the provider's own error" in told


def test_routes_that_are_drawn_tell_their_share() -> None:
    told = shown(lane="premium", route="a", share=0.75, then=[{"route": "b", "lane": "fallback", "share": 0.5}])
    assert "route a, drawn in 75% of cases" in told
    assert "b (fallback), drawn in 50% of cases" in told


def test_an_estimate_tells_what_compaction_would_leave_out() -> None:
    estimate = {"prompt_tokens": 112000, "output_tokens": 512, "units": 0}
    told = shown(lane="budget", estimate=estimate | {"saved_tokens": 71000})
    assert "112,000 tokens in, 512 out, 0 units; about 71,000 tokens of old tool results would be left" in told
    assert "left out" not in shown(lane="budget", estimate=estimate)


def test_routes_that_are_not_taken_say_why() -> None:
    out = {"route": "c", "tier": "premium", "because": "its circuit is open"}
    assert shown(skipped=[out]).endswith("c premium its circuit is open")


def test_where_every_circuit_is_open_the_error_is_told() -> None:
    told = shown(lane="premium", route="a", error="fallback_exhausted")
    assert "Every circuit is open: now it would end with fallback_exhausted, and later be served by a." in told
