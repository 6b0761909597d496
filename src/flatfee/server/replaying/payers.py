"""Who pays in a replay: each account's plan, billing state and billing day. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from flatfee.server.replaying.past import AccountLine
from flatfee.server.settings import AccountSettings, PlanSettings, Settings
from flatfee.wire import Billing


class NoPlan(ValueError):
    """An account has no plan to be replayed on; the message names the cure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Payer:
    """An account as it stands through a replay."""

    name: str
    plan: PlanSettings
    billing: Billing
    billing_day: int


@dataclass(slots=True, kw_only=True)
class Payers:
    """Finds an account's terms: ``assigned`` wins, then the file, then ``everybody``, then what the export tells."""

    settings: Settings
    assigned: Mapping[str, str] = field(default_factory=dict)
    everybody: str | None = None
    exported: dict[str, AccountLine] = field(default_factory=dict)
    _filed: Mapping[str, AccountSettings] = field(init=False)

    def __post_init__(self) -> None:
        """Look the accounts of the file up once.

        Raises:
            NoPlan: a plan that was assigned is not in the configuration.
        """
        self._filed = {account.name: account for account in self.settings.accounts}
        for plan in (*self.assigned.values(), self.everybody):
            if plan is not None and self.settings.plan(plan) is None:
                raise NoPlan(f"There is no plan {plan[:64]!r}; the configuration has {self._plans()}.")

    def payer(self, name: str) -> Payer:
        """Return an account's terms.

        Raises:
            NoPlan: nothing tells its plan, or the configuration does not have it.
        """
        filed, exported = self._filed.get(name), self.exported.get(name)
        return Payer(
            name=name, plan=self._plan(name), billing=_billing(filed, exported), billing_day=_day(filed, exported)
        )

    def _plan(self, name: str) -> PlanSettings:
        filed, exported = self._filed.get(name), self.exported.get(name)
        named = self.assigned.get(name) or (filed.plan if filed else None) or self.everybody
        named = named or (exported.plan if exported else None)
        if named is None and len(self.settings.plans) == 1:
            named = self.settings.plans[0].name
        plan = self.settings.plan(named) if named is not None else None
        if plan is None:
            why = f"is on the plan {named!r}, which the configuration does not have" if named else "names no plan"
            raise NoPlan(f"The account {name[:64]!r} {why}; give it one of {self._plans()}: --plan {name[:64]}=PLAN.")
        return plan

    def _plans(self) -> str:
        return ", ".join(plan.name for plan in self.settings.plans)


def _billing(filed: AccountSettings | None, exported: AccountLine | None) -> Billing:
    if filed is not None and ("billing" in filed.model_fields_set or exported is None):
        return filed.billing
    return exported.billing if exported is not None else Billing.ACTIVE


def _day(filed: AccountSettings | None, exported: AccountLine | None) -> int:
    if filed is not None and ("billing_day" in filed.model_fields_set or exported is None):
        return filed.billing_day
    return exported.billing_day if exported is not None else 1
