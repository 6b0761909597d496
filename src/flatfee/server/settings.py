"""Settings of the gateway: what ``flatfee.toml`` and ``FLATFEE_*`` may say (docs/guides/configuration.md).

The models are frozen and closed: an unknown key, an unknown name or an impossible value is an
error at start that names file, key and cure. Secrets are read from the environment here and
nowhere else, and never shown by ``repr``. Reading and error wording live in ``configuration``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, model_validator

from flatfee.server.providers.dialect import OPENAI, Dialect
from flatfee.server.windows import check_window
from flatfee.wire import Billing, Model, Reason, ReceiptDetail, Task, Tier

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Seconds = Annotated[float, Field(gt=0, le=86400)]
Capability = Literal["tools", "json_schema", "images"]


POLICY_REASONS = (Reason.FRAGILE_REASONING, Reason.SMALL_TASK, Reason.CONTEXT_SIZE, Reason.DEFAULT)
"""The reasons a rule may give; the others tell what happened, not what was chosen."""


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


def _policy_reason(reason: Reason) -> Reason:
    if reason not in POLICY_REASONS:
        raise ValueError(f"{str(reason)!r} is not a reason of the policy; use one of: {', '.join(POLICY_REASONS)}")
    return reason


def _printable(text: str) -> str:
    if not text.isprintable():  # it is told in a response header
        raise ValueError("holds a control character; write the model's name only")
    return text


EnvironmentName = Annotated[str, AfterValidator(_environment_name)]


class _Table(BaseModel):
    """Base of every table of the file: frozen, and closed to keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class ServerSettings(_Table):
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


class ReceiptsSettings(_Table):
    """``[receipts]``: how much of a receipt is kept, and for how long."""

    detail: ReceiptDetail = ReceiptDetail.FULL
    retention_days: int | None = Field(default=None, ge=1, le=36_500)


class ProviderSettings(_Table):
    """``[[providers]]``: a connection to one upstream API."""

    name: Name
    kind: Literal["anthropic", "openai", "simulated"]
    base_url: Annotated[str, AfterValidator(_http_url)] | None = None
    api_key_env: EnvironmentName | None = Field(default=None, min_length=1)
    api_key: SecretStr | None = None

    @model_validator(mode="after")
    def _has_an_address(self) -> ProviderSettings:
        if self.kind == "openai" and self.base_url is None:
            message = f"provider {self.name!r} needs base_url, such as 'https://api.openai.com/v1'"
            raise ValueError(message)
        return self

    @property
    def dialect(self) -> Dialect:
        """How its API differs from OpenAI's."""
        return OPENAI


class MeterSettings(_Table):
    """Fair-use units per token."""

    input: float = Field(default=1.0, ge=0, le=1000)
    cached_input: float = Field(default=0.1, ge=0, le=1000)
    output: float = Field(default=4.0, ge=0, le=1000)


class RouteSettings(_Table):
    """``[[routes]]``: one provider, one upstream model, one tier. Times are in seconds."""

    name: Name
    provider: str
    model: Annotated[str, AfterValidator(_printable)] = Field(min_length=1, max_length=256)
    tier: Tier
    priority: int = Field(default=1, ge=0, le=1000)
    weight: float = Field(default=1.0, gt=0, le=1000)
    context_tokens: int | None = Field(default=None, ge=1)
    capabilities: frozenset[Capability] | None = None
    prefill: bool = False
    connect_timeout: Seconds = 5.0
    first_token_timeout: Seconds | None = None
    idle_timeout: Seconds = 30.0
    total_timeout: Seconds = 600.0
    meter: MeterSettings = MeterSettings()


class PlanSettings(_Table):
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


class KeySettings(_Table):
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


class ProjectSettings(_Table):
    """``[[accounts.projects]]``: what the requests are for."""

    name: Name
    keys: tuple[KeySettings, ...] = ()


class AccountSettings(_Table):
    """``[[accounts]]``: who pays. Made at start if absent."""

    name: Name
    plan: str
    billing: Billing = Billing.ACTIVE
    billing_day: int = Field(default=1, ge=1, le=31)
    projects: tuple[ProjectSettings, ...] = ()


class Condition(_Table):
    """``when`` of a rule: every key that is given must hold. Tokens are the gateway's estimates."""

    task: tuple[Task, ...] | None = None
    reasoning_effort: tuple[str, ...] | None = None
    context_over: int | None = None
    context_under: int | None = None
    output_at_most: int | None = None
    tools: bool | None = None


class RuleSettings(_Table):
    """One row of the policy's table: the first row whose condition holds decides the tier."""

    when: Condition = Condition()
    tier: Tier
    reason: Annotated[Reason, AfterValidator(_policy_reason)]


DEFAULT_RULES: tuple[RuleSettings, ...] = (
    RuleSettings(
        when=Condition(task=(Task.PLAN, Task.EDIT, Task.REVIEW, Task.FINAL)),
        tier=Tier.PREMIUM,
        reason=Reason.FRAGILE_REASONING,
    ),
    RuleSettings(
        when=Condition(reasoning_effort=("high", "xhigh")), tier=Tier.PREMIUM, reason=Reason.FRAGILE_REASONING
    ),
    RuleSettings(when=Condition(context_over=120_000), tier=Tier.ECONOMY, reason=Reason.CONTEXT_SIZE),
    RuleSettings(when=Condition(task=(Task.CHAT, Task.SUMMARIZE)), tier=Tier.ECONOMY, reason=Reason.SMALL_TASK),
    RuleSettings(
        when=Condition(tools=False, context_under=2000, output_at_most=256),
        tier=Tier.ECONOMY,
        reason=Reason.SMALL_TASK,
    ),
    RuleSettings(tier=Tier.PREMIUM, reason=Reason.DEFAULT),
)
"""The built-in table for ``auto`` (docs/concepts/lanes.md); "or" is two rows with one reason. The last row
also ends every table of an operator that has no such row of its own."""


class PolicySettings(_Table):
    """``[policy]``: how ``auto`` chooses, and whether economy may end on a premium route."""

    economy_may_use_premium: bool = False
    rules: tuple[RuleSettings, ...] = DEFAULT_RULES


class Settings(_Table):
    """Everything an operator may set. Frozen; shared by all workers."""

    server: ServerSettings = ServerSettings()
    providers: tuple[ProviderSettings, ...] = Field(min_length=1)
    routes: tuple[RouteSettings, ...] = Field(min_length=1)
    plans: tuple[PlanSettings, ...] = Field(min_length=1)
    accounts: tuple[AccountSettings, ...] = ()
    receipts: ReceiptsSettings = ReceiptsSettings()
    policy: PolicySettings = PolicySettings()
    aliases: dict[str, Model] = Field(default_factory=dict)

    def plan(self, name: str) -> PlanSettings | None:
        """Return the plan called ``name``, or ``None``."""
        return next((plan for plan in self.plans if plan.name == name), None)

    def provider(self, name: str) -> ProviderSettings | None:
        """Return the provider called ``name``, or ``None``."""
        return next((provider for provider in self.providers if provider.name == name), None)

    def dialect(self, provider: str) -> Dialect:
        """Return how the API of the provider of that name differs from OpenAI's."""
        return self._dialects[provider]

    @cached_property
    def _dialects(self) -> Mapping[str, Dialect]:
        return {provider.name: provider.dialect for provider in self.providers}
