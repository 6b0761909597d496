"""Settings of the gateway: what ``flatfee.toml`` and ``FLATFEE_*`` may say (docs/guides/configuration.md).

The models are frozen and closed: an unknown key, an unknown name or an impossible value is an
error at start that names file, key and cure. Secrets are read from the environment here and
nowhere else, and never shown by ``repr``. Reading and error wording live in ``configuration``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from datetime import tzinfo
from functools import cached_property
from typing import Annotated, Final, Literal, get_args
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    Field,
    PrivateAttr,
    SecretStr,
    model_validator,
)

from flatfee.server.policy.patterns import covers, longest_first
from flatfee.server.policy.ranks import Ranks
from flatfee.server.policy.tables import DEFAULT_RULES, RuleSettings
from flatfee.server.policy.times import check_timezone, zone_of
from flatfee.server.providers.dialect import Dialect
from flatfee.server.providers.rows import COMPATIBLE, ROWS, Row
from flatfee.server.store.records import Terms
from flatfee.server.table import Name, Table
from flatfee.server.windows import check_window
from flatfee.wire import Billing, Model, ReceiptDetail, Tier

Seconds = Annotated[float, Field(gt=0, le=86400)]
Capability = Literal["tools", "json_schema", "images"]
LONGEST_MODEL_NAME: Final = 256
CAPABILITIES: Final[frozenset[Capability]] = frozenset(get_args(Capability))


# What stands in the wrong place may be a secret, so none of these messages shows it.


def _http_url(text: str) -> str:
    if any(sign in text for sign in "?#@"):
        raise ValueError("must have no user, query or fragment; bring the key by api_key_env")
    if not is_http_address(text):
        raise ValueError("is not an http or https URL; write one such as 'https://api.openai.com/v1'")
    return text.rstrip("/")


def is_http_address(text: str) -> bool:
    """Tell whether a URL names a host, and a port that can be if any, to speak HTTP to."""
    try:
        parts = urlsplit(text)
        port = parts.port  # which is read only now, and may be none
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0


def _kind(text: str) -> str:
    if text not in ROWS:
        close = difflib.get_close_matches(text, ROWS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"use one of: {', '.join(ROWS)}"
        raise ValueError(f"unknown kind {text[:40]!r}; {hint}")
    return text


def _store_url(text: str) -> str:
    path = text.removeprefix("sqlite:///")
    if text != "memory://" and (path in {"", text, ":memory:"} or "?" in path or "\0" in path):
        raise ValueError("is not a store; use 'memory://' or 'sqlite:///PATH'")
    return text


def _environment_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,127}", text):
        raise ValueError(
            "is not the name of an environment variable; put the secret into the environment, and its name here"
        )
    return text


def _printable(text: str) -> str:
    if not text.isprintable():  # it is told in a response header
        raise ValueError("holds a control character; write the model's name only")
    return text


EnvironmentName = Annotated[str, AfterValidator(_environment_name)]


class ServerSettings(Table):
    """``[server]``: where the gateway listens and where it keeps its ledger."""

    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=8787, ge=0, le=65535)
    store: Annotated[str, AfterValidator(_store_url)] = "sqlite:///flatfee.db"
    durability: Literal["process", "power"] = "process"
    admin_key_env: EnvironmentName = "FLATFEE_ADMIN_KEY"
    _admin_key: SecretStr | None = PrivateAttr(default=None)
    max_body_bytes: int = Field(default=33_554_432, ge=1024, le=1 << 30)
    max_header_bytes: int = Field(default=32_768, ge=1024, le=1 << 20)
    max_requests: int = Field(default=1000, ge=1, le=100_000)
    allowed_origins: tuple[str, ...] = ()
    shutdown_grace: Seconds = 600.0

    @property
    def admin_key(self) -> SecretStr | None:
        """The operator's own admin key, if the environment holds one; never part of the file."""
        return self._admin_key

    def with_admin_key(self, secret: str) -> ServerSettings:
        """Return a copy that holds the secret found in the environment."""
        copy = self.model_copy()
        copy._admin_key = SecretStr(secret)
        return copy


class ReceiptsSettings(Table):
    """``[receipts]``: how much of a receipt is kept, and for how long."""

    detail: ReceiptDetail = ReceiptDetail.FULL
    retention_days: int | None = Field(default=None, ge=1, le=36_500)


class ProviderSettings(Table):
    """``[[providers]]``: a connection to one upstream API. What is not said is as the row of its ``kind`` says.

    ``dialect`` holds only what the file says; ``speaks`` is how the service is asked.
    """

    name: Name
    kind: Annotated[str, AfterValidator(_kind)]
    base_url: Annotated[str, AfterValidator(_http_url)] | None = None
    api_key_env: EnvironmentName | None = Field(default=None, min_length=1)
    api_key: SecretStr | None = None
    dialect: Dialect = Dialect()

    @model_validator(mode="before")
    @classmethod
    def _at_its_own_address(cls, data: object) -> object:
        """Fill in the address of a service that has one."""
        if not isinstance(data, dict) or data.get("base_url") is not None:
            return data
        row = ROWS.get(str(data.get("kind")))
        return data if row is None else {**data, "base_url": row.base_url}

    @model_validator(mode="after")
    def _has_an_address(self) -> ProviderSettings:
        if self.base_url is None and self.row.example is not None:
            raise ValueError(f"provider {self.name!r} needs base_url, such as {self.row.example!r}")
        return self

    @property
    def row(self) -> Row:
        """What is known of its kind. ``openai`` at another address than OpenAI's is any compatible server."""
        row = ROWS[self.kind]
        return row if self.kind != "openai" or row.is_at(self.base_url) else ROWS[COMPATIBLE]

    @cached_property
    def speaks(self) -> Dialect:
        """How it is asked: as its row says, but for what the file says."""
        return self.row.dialect.overridden(by=self.dialect)

    @property
    def key_env(self) -> str | None:
        """The variable that holds its key: the file's, or else its row's, whose key only the service itself gets."""
        own = self.api_key is None and self.row.is_at(self.base_url)
        return self.api_key_env or (self.row.key_env if own else None)

    @property
    def needed_env(self) -> str | None:
        """The variable that must hold its key, if one must."""
        return self.key_env if self.api_key_env or self.row.needs_key else None


class MeterSettings(Table):
    """Fair-use units per token."""

    input: float = Field(default=1.0, ge=0, le=1000)
    cached_input: float = Field(default=0.1, ge=0, le=1000)
    output: float = Field(default=4.0, ge=0, le=1000)


class RouteSettings(Table):
    """``[[routes]]``: one provider, one upstream model, one tier. Times are in seconds."""

    name: Name
    provider: str
    model: Annotated[str, AfterValidator(_printable)] = Field(min_length=1, max_length=LONGEST_MODEL_NAME)
    tier: Tier
    priority: int = Field(default=1, ge=0, le=1000)
    weight: float = Field(default=1.0, gt=0, le=1000)
    context_tokens: int | None = Field(default=None, ge=1)
    token_factor: float = Field(default=1.0, ge=0.1, le=10)
    capabilities: frozenset[Capability] | None = None
    prefill: bool = False
    connect_timeout: Seconds = 5.0
    first_token_timeout: Seconds | None = None
    idle_timeout: Seconds = 30.0
    total_timeout: Seconds = 600.0
    meter: MeterSettings = MeterSettings()

    @property
    def can(self) -> frozenset[Capability]:
        """What it can do: all, where the file does not say."""
        return CAPABILITIES if self.capabilities is None else self.capabilities

    def tokens(self, estimate: int) -> int:
        """Return about how many tokens this model makes of a text that the gateway estimates at so many."""
        return estimate if self.token_factor == 1.0 else round(estimate * self.token_factor)

    @property
    def room(self) -> float | None:
        """How large a prompt it holds, in tokens of the gateway's estimate; ``None`` where the file does not say."""
        return None if self.context_tokens is None else self.context_tokens / self.token_factor


class PlanSettings(Table):
    """``[[plans]]``: what a flat fee buys per window."""

    name: Name
    fair_use: int = Field(ge=0, le=1 << 53)
    meter: Literal["tokens", "requests"] = "tokens"
    window: Annotated[str, AfterValidator(check_window)] = "month"
    output_reserve: int = Field(default=4096, ge=1, le=10_000_000)
    concurrent_workflows: int = Field(default=4, ge=1, le=100_000)
    workflow_idle: Seconds = 120.0
    workflow_fanout: int = Field(default=16, ge=1, le=10_000)
    requests_per_minute: int | None = Field(default=None, ge=1, le=1_000_000)
    continuation: bool = True
    continuation_limit: int | None = Field(default=None, ge=0, le=1 << 53)

    @cached_property
    def terms(self) -> Terms:
        """What the store needs to know of it."""
        return Terms(
            unit="token" if self.meter == "tokens" else "request",
            fair_use=self.fair_use,
            continuation_limit=self.continuation_limit,
            workflows=self.concurrent_workflows,
            fanout=self.workflow_fanout,
            idle=self.workflow_idle,
            requests_per_minute=self.requests_per_minute,
        )


class KeySettings(Table):
    """A key that the operator brings: the secret stands in the environment variable ``key_env``."""

    name: Name
    key_env: EnvironmentName
    _secret: SecretStr = PrivateAttr(default=SecretStr(""))

    @property
    def secret(self) -> SecretStr:
        """The secret, once ``with_secret`` has brought it; never part of the file."""
        return self._secret

    def with_secret(self, secret: str) -> KeySettings:
        """Return a copy that holds the secret found in the environment."""
        copy = self.model_copy()
        copy._secret = SecretStr(secret)
        return copy


class ProjectSettings(Table):
    """``[[accounts.projects]]``: what the requests are for."""

    name: Name
    keys: tuple[KeySettings, ...] = ()


class AccountSettings(Table):
    """``[[accounts]]``: who pays. Made at start if absent."""

    name: Name
    plan: str
    billing: Billing = Billing.ACTIVE
    billing_day: int = Field(default=1, ge=1, le=31)
    projects: tuple[ProjectSettings, ...] = ()


class CompactionSettings(Table):
    """``[policy.compaction]``: trim requests of more than ``over`` tokens to ``to`` on economy (estimates)."""

    over: int = Field(ge=1000, le=100_000_000)
    to: int = Field(ge=1)
    keep_turns: int = Field(default=4, ge=1, le=1000)

    @model_validator(mode="after")
    def _leaves_room(self) -> CompactionSettings:
        if self.to >= self.over:
            message = (
                f"to is {self.to} and over is {self.over}: a request is trimmed down to less than it may have; "
                f"lower to, to {self.over * 2 // 3} for example"
            )
            raise ValueError(message)
        return self


class PolicySettings(Table):
    """``[policy]``: how ``auto`` chooses, whether economy may end on a premium route, and what it leaves out."""

    timezone: Annotated[str, AfterValidator(check_timezone)] = "UTC"
    economy_may_use_premium: bool = False
    compaction: CompactionSettings | None = None
    rules: tuple[RuleSettings, ...] = DEFAULT_RULES

    @cached_property
    def zone(self) -> tzinfo:
        """Whose wall clock ``hours`` and ``days`` of rules are read off."""
        return zone_of(self.timezone)

    @cached_property
    def asks_for_time(self) -> bool:
        """Tell whether a rule asks for the hour or the day."""
        return any(rule.when.hours or rule.when.days for rule in self.rules)

    @cached_property
    def asks_for_fair_use(self) -> bool:
        """Tell whether a rule asks how much of fair-use is left, which is read from the ledger only then."""
        asked = {"fair_use_left_under", "fair_use_left_over"}
        return any(name in asked for rule in self.rules for name, _ in rule.when.given)


class Settings(Table):
    """Everything an operator may set. Frozen; shared by all workers."""

    server: ServerSettings = ServerSettings()
    providers: tuple[ProviderSettings, ...] = Field(min_length=1)
    routes: tuple[RouteSettings, ...] = Field(min_length=1)
    plans: tuple[PlanSettings, ...] = Field(min_length=1)
    accounts: tuple[AccountSettings, ...] = ()
    receipts: ReceiptsSettings = ReceiptsSettings()
    policy: PolicySettings = PolicySettings()
    aliases: dict[str, Model] = Field(default_factory=dict)

    def meaning(self, name: str) -> Model | None:
        """Return the model that a name stands for, or ``None``."""
        meaning = self._meanings.get(name)
        if meaning is not None:
            return meaning
        entry = self.entry(name)
        return self._meanings[entry] if entry is not None else None

    def entry(self, name: str) -> str | None:
        """Return the model or alias by which a name is found: the name itself, or the longest that ends in ``*``.

        Receipts keep the name, and its ending is the caller's: beyond what a model is called, no alias covers it.
        """
        if name in self._meanings:
            return name
        if len(name) > LONGEST_MODEL_NAME or not name.isprintable():
            return None
        return next((pattern for pattern in self._patterns if covers(pattern, name)), None)

    @cached_property
    def _meanings(self) -> Mapping[str, Model]:
        return {**{model.value: model for model in Model}, **self.aliases}

    @cached_property
    def _patterns(self) -> Sequence[str]:
        return longest_first(self.aliases)

    def plan(self, name: str) -> PlanSettings | None:
        """Return the plan called ``name``, or ``None``."""
        return self._plans.get(name)

    @cached_property
    def _plans(self) -> Mapping[str, PlanSettings]:
        return {plan.name: plan for plan in reversed(self.plans)}

    @cached_property
    def ranks(self) -> Ranks:
        """The routes, as every request has to look at them."""
        return Ranks.of(self.routes)

    def provider(self, name: str) -> ProviderSettings | None:
        """Return the provider called ``name``, or ``None``."""
        return next((provider for provider in self.providers if provider.name == name), None)

    def dialect(self, provider: str) -> Dialect:
        """Return how the API of the provider of that name differs from OpenAI's."""
        return self._dialects[provider]

    @cached_property
    def _dialects(self) -> Mapping[str, Dialect]:
        return {provider.name: provider.speaks for provider in self.providers}
