"""How a scripted gateway is set up: its plan, routes and account. From options to ``Settings``; nothing runs here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from flatfee.server.settings import AccountSettings, KeySettings, PlanSettings, ProjectSettings, Settings
from flatfee.testing.clock import START
from flatfee.wire import Billing, Tier

ACCOUNT: Final = "acme"
PROJECT: Final = "ci"
PLAN: Final = "test"
PROVIDER: Final = "double"

ROUTES: Final[tuple[Mapping[str, Any], ...]] = (
    {"name": "premium-a", "model": "premium-model-a", "tier": Tier.PREMIUM, "priority": 1},
    {"name": "premium-b", "model": "premium-model-b", "tier": Tier.PREMIUM, "priority": 2},
    {"name": "economy-a", "model": "economy-model-a", "tier": Tier.ECONOMY, "priority": 1},
    {"name": "economy-b", "model": "economy-model-b", "tier": Tier.ECONOMY, "priority": 2},
)
"""Two routes of each tier, so that each has another to fall back to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a test may choose. The names of a plan's limits are those of ``[[plans]]`` in ``flatfee.toml``.

    ``routes`` are rows as in ``[[routes]]``; a row needs ``name`` and ``tier`` only. ``policy`` and ``aliases``
    are those tables. ``start`` is what time it is, an aware date and time. ``autojump`` lets time skip where
    the gateway only waits. ``strict`` refuses what no rule matches. ``port`` 0 is a free one.
    """

    fair_use: int = 100_000
    meter: str = "tokens"
    window: str = "month"
    output_reserve: int = 256
    concurrent_workflows: int = 4
    workflow_idle: float = 120.0
    workflow_fanout: int = 16
    requests_per_minute: int | None = None
    continuation: bool = True
    continuation_limit: int | None = None
    billing: Billing | str = Billing.ACTIVE
    billing_day: int = 1
    routes: Sequence[Mapping[str, Any]] = ROUTES
    policy: Mapping[str, Any] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    start: datetime = START
    seed: int = 0
    strict: bool = False
    autojump: bool = True
    host: str = "127.0.0.1"
    port: int = 0

    def settings(self, key: str) -> Settings:
        """Return the settings of a gateway with one account, whose one project has the key ``key``."""
        names = PlanSettings.model_fields.keys() - {"name"}
        plan = {"name": PLAN, **{name: getattr(self, name) for name in names}}
        ready = Settings.model_validate(
            {
                "server": {"host": self.host, "port": self.port, "store": "memory://"},
                "providers": [{"name": PROVIDER, "kind": "simulated"}],
                "routes": [_route(row) for row in self.routes],
                "plans": [plan],
                "policy": self.policy,
                "aliases": self.aliases,
            }
        )
        project = ProjectSettings(name=PROJECT, keys=(KeySettings(name=PROJECT, key_env="_").with_secret(key),))
        account = AccountSettings(
            name=ACCOUNT, plan=PLAN, billing=Billing(self.billing), billing_day=self.billing_day, projects=(project,)
        )
        return ready.model_copy(update={"accounts": (account,)})


def _route(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"provider": PROVIDER, "model": f"{row.get('name')}-model", **row}
