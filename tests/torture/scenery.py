"""The settings that the scenarios run under: small caps, few slots, short times, so that all of them are reached."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Final

from flatfee.server.settings import AccountSettings, KeySettings, ProjectSettings, ProviderSettings, Settings

IDLE: Final = 20.0
"""Seconds that a workflow's slot is held after its last answer."""

KEYS: Final[Mapping[str, tuple[str, str]]] = {
    "acme-ci-secret-of-the-simulation-01234": ("acme", "ci"),
    "acme-docs-secret-of-the-simulation-0123": ("acme", "docs"),
    "beta-ci-secret-of-the-simulation-01234": ("beta", "ci"),
}

SPARE_KEYS: Final = ("acme-team-secret-of-the-simulation-0123", "acme-team-secret-of-the-simulation-4567")
"""Secrets of team keys that are made, and ended, while requests run."""

_ROUTE: Final[Mapping[str, Any]] = {
    "provider": "fickle",
    "first_token_timeout": 5.0,
    "idle_timeout": 8.0,
    "total_timeout": 40.0,
}
ROUTES: Final = (
    {**_ROUTE, "name": "first", "model": "first-model", "tier": "premium", "priority": 1},
    {**_ROUTE, "name": "second", "model": "second-model", "tier": "premium", "priority": 2, "context_tokens": 100_000},
    {**_ROUTE, "name": "thrifty", "model": "thrifty-model", "tier": "economy", "priority": 1},
)

_PLAN: Final[Mapping[str, Any]] = {
    "output_reserve": 60,
    "concurrent_workflows": 2,
    "workflow_idle": IDLE,
    "workflow_fanout": 2,
    "window": "5h",
}
PLANS: Final = (
    {**_PLAN, "name": "small", "fair_use": 600, "continuation_limit": 500},
    {**_PLAN, "name": "strict", "fair_use": 900, "continuation": False, "concurrent_workflows": 3},
    {**_PLAN, "name": "counted", "fair_use": 9, "meter": "requests", "window": "month", "requests_per_minute": 40},
    {**_PLAN, "name": "ample", "fair_use": 6000, "window": "1h", "concurrent_workflows": 4, "workflow_fanout": 3},
)


@functools.cache
def settings(acme: str, beta: str, billing: str = "active", economy_may_use_premium: bool = False) -> Settings:
    """Return settings in which two accounts have the plans of these names, and ``acme`` this billing state."""
    accounts = []
    for name, plan, state in (("acme", acme, billing), ("beta", beta, "active")):
        projects = tuple(
            ProjectSettings(name=project, keys=(KeySettings(name=project, key_env="KEY").with_secret(secret),))
            for secret, (account, project) in KEYS.items()
            if account == name
        )
        account = AccountSettings.model_validate({"name": name, "plan": plan, "billing": state})
        accounts.append(account.model_copy(update={"projects": projects}))
    made = Settings.model_validate(
        {
            "server": {"host": "127.0.0.1", "port": 0, "store": "memory://"},
            "providers": [ProviderSettings(name="fickle", kind="simulated").model_dump()],
            "routes": list(ROUTES),
            "plans": list(PLANS),
            "policy": {"economy_may_use_premium": economy_may_use_premium},
        }
    )
    return made.model_copy(update={"accounts": tuple(accounts)})
