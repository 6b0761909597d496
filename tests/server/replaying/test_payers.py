"""Which plan an account is replayed on, and what its billing is."""

from __future__ import annotations

from typing import Any

import pytest
from tests.server.replaying.past import settings

from flatfee.server.replaying.past import AccountLine
from flatfee.server.replaying.payers import NoPlan, Payers
from flatfee.server.settings import Settings
from flatfee.wire import Billing

EXPORTED = {"acme": AccountLine(name="acme", plan="small", billing=Billing.PAST_DUE, billing_day=9)}


def configuration(**account: Any) -> Settings:
    plans = [{"name": name, "fair_use": 1000} for name in ("pro", "small", "large")]
    accounts = [{"name": "acme", "plan": "pro", **account}] if account else []
    told = settings().model_dump() | {"plans": plans, "accounts": accounts}
    return Settings.model_validate(told)


@pytest.mark.parametrize(
    ("filed", "options", "plan"),
    [
        ({"plan": "pro"}, {"assigned": {"acme": "large"}, "everybody": "small"}, "large"),
        ({"plan": "pro"}, {"everybody": "large"}, "pro"),
        ({}, {"everybody": "large"}, "large"),
        ({}, {}, "small"),
    ],
)
def test_an_options_plan_wins_then_the_files_then_everybodys_then_the_exports(
    filed: dict[str, Any], options: dict[str, Any], plan: str
) -> None:
    payers = Payers(settings=configuration(**filed), exported=EXPORTED, **options)
    assert payers.payer("acme").plan.name == plan


def test_billing_is_as_the_file_says_or_else_as_exported() -> None:
    exported = Payers(settings=configuration(plan="pro"), exported=EXPORTED).payer("acme")
    assert (exported.billing, exported.billing_day) == ("past_due", 9)
    filed = Payers(settings=configuration(billing="suspended", billing_day=3), exported=EXPORTED).payer("acme")
    assert (filed.billing, filed.billing_day) == ("suspended", 3)
    unknown = Payers(settings=configuration(), everybody="pro").payer("zoe")
    assert (unknown.billing, unknown.billing_day) == ("active", 1)


def test_the_only_plan_is_everybodys() -> None:
    assert Payers(settings=settings()).payer("acme").plan.name == "pro"


def test_who_has_no_plan_is_told_the_cure() -> None:
    with pytest.raises(NoPlan, match=r"names no plan; give it one of pro, small, large: --plan zoe=PLAN"):
        Payers(settings=configuration()).payer("zoe")
    gone = {"acme": AccountLine(name="acme", plan="gone")}
    with pytest.raises(NoPlan, match="is on the plan 'gone'"):
        Payers(settings=configuration(), exported=gone).payer("acme")
    with pytest.raises(NoPlan, match="There is no plan 'huge'"):
        Payers(settings=configuration(), everybody="huge")
