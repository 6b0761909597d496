"""How a dry run looks on a terminal: the decision, rule by rule, and what would follow. Only looks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from flatfee.cli.show import count, facts_table, lane_text, one_line
from flatfee.receipt import because
from flatfee.types import FailureOutlook, NextRoute, RoutePlan, RuleTrace

_NOBODY: Final = "nobody"
_PASSED_ON: Final = "the provider's own error"


def print_plan(console: Console, plan: RoutePlan) -> None:
    """Show one dry run: a sentence, the figures, every rule that was looked at, and what each failure leads to."""
    console.print(Text(one_line(_sentence(plan)), style="italic"), soft_wrap=not console.is_terminal)
    console.print(facts_table(_rows(plan)))
    print_rules(console, plan.rules)
    failures = [_failure(each) for each in plan.on_failure]
    _print_table(console, "When the first route fails", ("failure", "again", "next", "if that fails, too"), failures)
    left = [(out.route, out.tier, out.because) for out in (*plan.skipped, *plan.ineligible)]
    _print_table(console, "Routes it does not take", ("route", "tier", "because"), left)


def print_rules(console: Console, rules: Sequence[RuleTrace]) -> None:
    """Show the rules as they were looked at."""
    rows = [(step.rule, _matched(step), step.because) for step in rules]
    _print_table(console, "Rules, in order", ("rule", "matched", "because"), rows)


def _matched(step: RuleTrace) -> Text:
    return Text("yes", style="bold green") if step.matched else Text("no", style="dim")


def _print_table(
    console: Console, title: str, heads: Sequence[str], rows: Iterable[Sequence[RenderableType | None]]
) -> None:
    table = Table(box=None, pad_edge=False, title=title, title_justify="left", title_style="bold")
    for head in heads:
        table.add_column(head, header_style="dim")
    for row in rows:
        table.add_row(*(Text(one_line(cell)) if isinstance(cell, str) else cell for cell in row))
    if table.rows:
        console.print()
        console.print(table)


def _sentence(plan: RoutePlan) -> str:
    by = " via ".join(part for part in (plan.model, plan.route) if part)
    if plan.error is not None:
        return f"Every circuit is open: now it would end with {plan.error}, and later be served by {by}."
    why = f" because {because(plan.reason)}" if plan.reason else ""
    return f"It would be served on the {plan.lane} lane{f' by {by}' if by else ''}{why}."


def _rows(plan: RoutePlan) -> Sequence[tuple[str, RenderableType | None]]:
    estimate = plan.estimate
    return (
        ("lane", lane_text(plan.lane)),
        ("reason", plan.reason),
        ("tier", plan.tier),
        ("route", f"{plan.route}{_share(plan.share)}" if plan.route else None),
        ("model", plan.model),
        (
            "estimate",
            f"{count(estimate.prompt_tokens)} tokens in, {count(estimate.output_tokens)} out, "
            f"{count(estimate.units)} units{_left_out(estimate.saved_tokens)}"
            if estimate
            else None,
        ),
        ("if that fails", "\n".join(map(_next, plan.then)) or "nothing else"),
    )


def _next(then: NextRoute) -> str:
    units = f", {count(then.units)} units" if then.units else ""
    return f"{one_line(then.route)} ({then.lane}{units}){_share(then.share)}"


def _left_out(saved: int | None) -> str:
    return f"; about {count(saved)} tokens of old tool results would be left out" if saved else ""


def _share(share: float | None) -> str:
    return "" if share is None else f", drawn in {share:.0%} of cases"


def _failure(each: FailureOutlook) -> Sequence[RenderableType | None]:
    why = "" if each.reason in {None, each.failure} else f", {each.reason}"  # else the first column says it
    follows = f"{each.next} ({each.lane}{why})" if each.next is not None else _NOBODY
    return (each.failure, "yes" if each.again else Text("no", style="dim"), follows, each.then_error or _PASSED_ON)
