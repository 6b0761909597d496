"""How a scripted gateway is set up: its plan, routes and account. From options to ``Settings``; nothing runs here."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

from flatfee.server.configuration import SettingsError, parse_values, read_text, validated, with_secrets
from flatfee.server.keys import KeyKind, new_key
from flatfee.server.settings import AccountSettings, KeySettings, PlanSettings, ProjectSettings, Settings
from flatfee.testing.running.clock import START
from flatfee.wire import Billing, Tier

if TYPE_CHECKING:
    from flatfee.testing.tapes.redaction import Redact
    from flatfee.testing.tapes.replay import Tapes
    from flatfee.testing.tapes.taping import Folder

_P = ParamSpec("_P")
_R = TypeVar("_R")
_Self = TypeVar("_Self")

ACCOUNT: Final = "acme"
PROJECT: Final = "ci"
PLAN: Final = "test"
PROVIDER: Final = "double"
KEY_ENV: Final = "FLATFEE_API_KEY"

LIMITS: Final = tuple(name for name in PlanSettings.model_fields if name != "name")
"""The limits of a plan, by the names that ``[[plans]]`` has for them."""

TERMS: Final = ("billing", "billing_day")
"""What an account has beside its plan."""

_SWITCHES: Final = ("frozen", "strict", "autojump", "socket")
_OF_THE_FILE: Final = ("routes", "policy", "aliases")
_HERE: Final = "running_gateway()"

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
    are those tables. ``config`` is a configuration file in place of all these, or its text: then the plan's limits,
    ``billing`` and ``billing_day`` change its first account where they are given. ``start`` is what time it is, a
    date and time with a zone, or its ISO text; ``frozen`` lets the clock stand still but for what is advanced or
    skipped, so that the same requests get the same receipts. ``autojump`` lets time skip where the gateway only
    waits. ``strict`` refuses what no rule matches. ``record`` is a folder for what the real providers of ``config``
    answer, without secrets and what ``redact`` names; ``replay`` such a folder, or ``Tapes``, which answers what no
    rule does. Without ``socket`` no port is opened, and only transports in memory reach the gateway; ``port`` 0 is a
    free one.
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
    config: str | os.PathLike[str] | None = None
    start: datetime | str = START
    frozen: bool = False
    seed: int = 0
    strict: bool = False
    record: Folder | None = None
    replay: Folder | Tapes | None = None
    redact: Redact | Iterable[Redact] = ()
    autojump: bool = True
    host: str = "127.0.0.1"
    port: int = 0
    socket: bool = True
    given: frozenset[str] = frozenset()
    """Which options were given, where ``of`` made them: the others do not change what a file says."""

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Options:
        """Return the options that were given by name.

        Raises:
            ValueError: there is no such option, or it is not what it must be.
        """
        known = [each.name for each in fields(cls) if each.name != "given"]
        for name in options:
            if name not in known:
                message = f"There is no option {name!r}; {nearest(name, known)}."
                raise ValueError(message)
            if name in _SWITCHES and not isinstance(options[name], bool):
                message = f"{name}={options[name]!r} is not possible; use True or False."
                raise ValueError(message)
        return cls(**options, given=frozenset(options))

    def settings(self) -> Settings:
        """Return the settings of a gateway. Its first account has a project with a key.

        Raises:
            SettingsError: an option or the file says something impossible.
            ValueError: an option cannot be given together with ``config``.
        """
        if self.config is None:
            try:
                ready = validated(Settings, self._tables(), _HERE)
                return with_secrets(ready, _HERE, {KEY_ENV: new_key(KeyKind.PROJECT)})
            except SettingsError as error:  # the options have no tables
                told = [problem.removeprefix("plans[0].").removeprefix("accounts[0].") for problem in error.problems]
                raise SettingsError(_HERE, told) from error
        for name in _OF_THE_FILE:
            if name in self.given:
                message = f"{name}= and config= are both given; say it in the file, or leave the file out."
                raise ValueError(message)
        text, source = _read(self.config)
        ready = _with_a_key(parse_values(text, source, {}))
        ready = with_secrets(ready, source, _secrets(ready))
        server = {"host": self.host, "port": self.port, "store": "memory://"}
        ready = ready.model_copy(update={"server": ready.server.model_copy(update=server)})
        return self._changed(ready)

    def _tables(self) -> dict[str, Any]:
        key = {"name": PROJECT, "key_env": KEY_ENV}
        account = {"name": ACCOUNT, "plan": PLAN, "projects": [{"name": PROJECT, "keys": [key]}]}
        return {
            "server": {"host": self.host, "port": self.port, "store": "memory://"},
            "providers": [{"name": PROVIDER, "kind": "simulated"}],
            "routes": [_route(row) for row in self.routes] if isinstance(self.routes, list | tuple) else self.routes,
            "plans": [{"name": PLAN, **self._chosen(LIMITS)}],
            "accounts": [{**account, **self._chosen(TERMS)}],
            "policy": self.policy,
            "aliases": self.aliases,
        }

    def _chosen(self, names: Sequence[str], among: Callable[[str], bool] = bool) -> dict[str, Any]:
        return {name: getattr(self, name) for name in names if among(name)}

    def _changed(self, settings: Settings) -> Settings:
        """Let what was given go over what the file says of its first account."""
        first, *others = settings.accounts
        plan = settings.plan(first.plan)
        assert plan is not None  # noqa: S101 - the file's names were looked at
        given = self.given.__contains__
        changed = validated(PlanSettings, plan.model_dump() | self._chosen(LIMITS, given), _HERE)
        terms = validated(AccountSettings, first.model_dump() | self._chosen(TERMS, given), _HERE)
        account = first.model_copy(update={name: getattr(terms, name) for name in TERMS})  # with the keys' secrets
        plans = tuple(changed if each is plan else each for each in settings.plans)
        return settings.model_copy(update={"plans": plans, "accounts": (account, *others)})


def taking(form: Callable[_P, object]) -> Callable[[Callable[..., _R]], Callable[_P, _R]]:
    """Tell checkers of types, and editors, that a function's keywords are those of ``form``."""
    del form
    return lambda function: function


def method_taking(
    form: Callable[_P, object],
) -> Callable[[Callable[Concatenate[_Self, ...], _R]], Callable[Concatenate[_Self, _P], _R]]:
    """Tell the same of a method."""
    del form
    return lambda method: method


def nearest(name: str, known: Sequence[str]) -> str:
    """Say what to use in place of a name that does not exist."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"use {close[0]}" if close else f"use one of: {', '.join(known)}"


def first_key(settings: Settings) -> tuple[AccountSettings, ProjectSettings, str]:
    """Return the first account with a key, the key's project, and the secret."""
    return next(
        (account, project, project.keys[0].secret.get_secret_value())
        for account in settings.accounts
        for project in account.projects
        if project.keys
    )


def _route(row: object) -> object:
    if not isinstance(row, Mapping):
        return row  # which the settings refuse
    return {"provider": PROVIDER, "model": f"{row.get('name')}-model", **row}


def _read(config: str | os.PathLike[str]) -> tuple[str, str]:
    """Return a configuration's text, and how errors name it. Text is told from a path by its lines."""
    if isinstance(config, str) and "\n" in config:
        return config, "config"
    path = Path(config)
    return read_text(path), str(path)


def _with_a_key(settings: Settings) -> Settings:
    """Return settings whose first account has a project with a key; what is missing of that is made."""
    first = settings.accounts[0] if settings.accounts else AccountSettings(name=ACCOUNT, plan=settings.plans[0].name)
    if not any(project.keys for project in first.projects):
        taken = {project.name: project for project in first.projects}
        name = next(iter(taken), PROJECT)
        project = ProjectSettings(name=name, keys=(KeySettings(name=PROJECT, key_env=KEY_ENV),))
        first = first.model_copy(update={"projects": tuple((taken | {name: project}).values())})
    return settings.model_copy(update={"accounts": (first, *settings.accounts[1:])})


def _secrets(settings: Settings) -> dict[str, str]:
    """Return what the environment has of the variables that the settings name; what is missing is made up."""
    return {name: os.environ.get(name) or new_key(KeyKind.PROJECT) for name in _named(settings)}


def _named(settings: Settings) -> Iterator[str]:
    yield from (entry.key_env for entry in settings.providers if entry.key_env)
    for account in settings.accounts:
        yield from (key.key_env for project in account.projects for key in project.keys)
