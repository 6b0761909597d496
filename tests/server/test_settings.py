"""What the settings accept by themselves: defaults, bounds, and nothing that shows a secret."""

from typing import Any

import pytest
from pydantic import ValidationError

from flatfee.server.policy.tables import DEFAULT_RULES, Condition, RuleSettings
from flatfee.server.providers.dialect import Dialect
from flatfee.server.settings import (
    AccountSettings,
    CompactionSettings,
    KeySettings,
    PlanSettings,
    ProviderSettings,
    RouteSettings,
    ServerSettings,
    Settings,
)
from flatfee.wire import Billing, Model, Reason, Tier

SECRET = "canary-" + "x" * 40
ROUTE: dict[str, Any] = {"name": "r", "provider": "p", "model": "m", "tier": "premium"}


def minimal(**more: Any) -> Settings:
    tables: dict[str, Any] = {
        "providers": [{"name": "p", "kind": "simulated"}],
        "routes": [ROUTE],
        "plans": [{"name": "pro", "fair_use": 10}],
    }
    return Settings.model_validate(tables | more)


def test_the_defaults_are_those_of_the_contract() -> None:
    settings = minimal()
    server, route, plan = settings.server, settings.routes[0], settings.plans[0]
    assert (server.host, server.port, server.store) == ("127.0.0.1", 8787, "sqlite:///flatfee.db")
    assert (server.durability, server.max_body_bytes) == ("process", 33_554_432)
    assert server.admin_key_env == "FLATFEE_ADMIN_KEY"
    assert (route.priority, route.weight, route.capabilities, route.prefill) == (1, 1.0, None, False)
    assert (route.connect_timeout, route.idle_timeout, route.total_timeout) == (5.0, 30.0, 600.0)
    assert (route.meter.input, route.meter.cached_input, route.meter.output) == (1.0, 0.1, 4.0)
    assert (plan.meter, plan.window, plan.continuation, plan.continuation_limit) == ("tokens", "month", True, None)
    assert (plan.workflow_idle, plan.workflow_fanout) == (120.0, 16)
    assert settings.policy.rules == DEFAULT_RULES
    assert AccountSettings(name="a", plan="pro").billing is Billing.ACTIVE


def test_the_last_default_rule_matches_everything() -> None:
    assert DEFAULT_RULES[-1] == RuleSettings(when=Condition(), tier=Tier.PREMIUM, reason=Reason.DEFAULT)


def test_plans_and_providers_are_found_by_name() -> None:
    settings = minimal()
    assert settings.plan("pro") is settings.plans[0]
    assert settings.provider("p") is settings.providers[0]
    assert settings.plan("other") is None
    assert settings.provider("other") is None


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        minimal().server.port = 1


@pytest.mark.parametrize(
    ("table", "bad"),
    [
        (ServerSettings, {"port": 65536}),
        (ServerSettings, {"port": -1}),
        (ServerSettings, {"store": "sqlite://"}),
        (ServerSettings, {"store": "sqlite:///"}),
        (ServerSettings, {"store": "sqlite:///a\0b"}),
        (ServerSettings, {"store": "mysql://x"}),
        (ServerSettings, {"durability": "none"}),
        (ServerSettings, {"max_body_bytes": 10}),
        (ServerSettings, {"shutdown_grace": 0}),
        (ProviderSettings, {"name": "", "kind": "simulated"}),
        (ProviderSettings, {"name": "a b", "kind": "simulated"}),
        (ProviderSettings, {"name": "a\n", "kind": "simulated"}),
        (ProviderSettings, {"name": "a", "kind": "openai-compatible"}),
        (ProviderSettings, {"name": "a", "kind": "ollama", "dialect": {"key_header": "x\r\ny"}}),
        (ProviderSettings, {"name": "a", "kind": "simulated", "api_key_env": ""}),
        (RouteSettings, ROUTE | {"weight": 0}),
        (RouteSettings, ROUTE | {"weight": float("nan")}),
        (RouteSettings, ROUTE | {"idle_timeout": float("inf")}),
        (RouteSettings, ROUTE | {"context_tokens": 0}),
        (RouteSettings, ROUTE | {"token_factor": 0.09}),
        (RouteSettings, ROUTE | {"token_factor": 10.1}),
        (RouteSettings, ROUTE | {"token_factor": float("nan")}),
        (RouteSettings, ROUTE | {"capabilities": ["telepathy"]}),
        (RouteSettings, ROUTE | {"meter": {"input": -1}}),
        (RouteSettings, ROUTE | {"model": ""}),
        (PlanSettings, {"name": "a", "fair_use": -1}),
        (PlanSettings, {"name": "a", "fair_use": 1, "window": "week"}),
        (PlanSettings, {"name": "a", "fair_use": 1, "concurrent_workflows": 0}),
        (PlanSettings, {"name": "a", "fair_use": 1, "workflow_idle": 0}),
        (PlanSettings, {"name": "a", "fair_use": 1, "requests_per_minute": 0}),
        (AccountSettings, {"name": "a", "plan": "p", "billing_day": 0}),
        (AccountSettings, {"name": "a", "plan": "p", "billing_day": 32}),
        (KeySettings, {"name": "a", "key_env": ""}),
        (CompactionSettings, {"over": 999, "to": 1}),
        (CompactionSettings, {"over": 1000, "to": 0}),
        (CompactionSettings, {"over": 1000, "to": 1000}),
        (CompactionSettings, {"over": 1000, "to": 1, "keep_turns": 0}),
        (RuleSettings, {"tier": "premium", "reason": "default", "because": "x"}),
    ],
)
def test_an_impossible_value_is_refused(table: Any, bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        table.model_validate(bad)


@pytest.mark.parametrize(
    ("factor", "tokens", "room"),
    [({}, 1001, 2000), ({"token_factor": 1.3}, 1301, 1538), ({"token_factor": 0.1}, 100, 20_000)],
)
def test_a_routes_tokens_are_the_estimate_times_its_factor(factor: dict[str, float], tokens: int, room: int) -> None:
    route = RouteSettings.model_validate(ROUTE | {"context_tokens": 2000} | factor)
    assert route.tokens(1001) == tokens
    assert route.room is not None
    assert int(route.room) == room
    assert route.tokens(int(route.room)) <= 2000


@pytest.mark.parametrize("url", ["http://localhost:1/v1", "https://api.example.com/v1/"])
def test_a_base_url_is_kept_without_its_last_slash(url: str) -> None:
    assert ProviderSettings(name="a", kind="openai", base_url=url).base_url == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.example.com",
        "ftp://x",
        "file:///etc/passwd",
        "http://",
        "https://x?y=1",
        "https://x#y",
        "http://x:99999/v1",
        "http://x:0/v1",
        "http://x:canary/v1",
        "http://[::1/v1",
    ],
)
def test_a_base_url_must_be_a_plain_http_url(url: str) -> None:
    with pytest.raises(ValidationError, match=r"http|no user, query or fragment") as raised:
        ProviderSettings(name="a", kind="openai", base_url=url)
    assert "canary" not in str(raised.value)


@pytest.mark.parametrize("url", [f"https://user:{SECRET}@x", f"https://{SECRET}@x", f"https://x?key={SECRET}"])
def test_a_secret_in_a_base_url_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ValidationError) as raised:
        ProviderSettings(name="a", kind="openai", base_url=url)
    assert SECRET not in str(raised.value)


def test_secrets_are_in_no_form_that_settings_are_shown_in() -> None:
    key = KeySettings(name="ci", key_env="CI").with_secret(SECRET)
    settings = minimal(
        providers=[{"name": "p", "kind": "simulated", "api_key": SECRET}],
        accounts=[{"name": "acme", "plan": "pro", "projects": [{"name": "ci", "keys": [key]}]}],
    )
    kept = settings.accounts[0].projects[0].keys[0]
    assert kept.secret.get_secret_value() == SECRET
    for shown in (repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json(), repr(kept)):
        assert SECRET not in shown


def test_a_key_without_its_secret_is_not_changed_by_the_copy_that_has_it() -> None:
    key = KeySettings(name="ci", key_env="CI")
    key.with_secret(SECRET)
    assert key.secret.get_secret_value() == ""


def test_a_copy_with_other_fields_keeps_nothing_that_was_worked_out_from_the_old_ones() -> None:
    settings = minimal(policy={"timezone": "Europe/Berlin"})
    provider = settings.providers[0]
    assert (settings.meaning("gpt"), settings.dialect("p"), str(settings.policy.zone)) == (
        None,
        provider.speaks,
        "Europe/Berlin",
    )
    silent = provider.model_copy(update={"dialect": Dialect(stream_options=False)})
    policy = settings.policy.model_copy(update={"timezone": "UTC"})
    copied = settings.model_copy(update={"providers": (silent,), "aliases": {"gpt": Model.AUTO}, "policy": policy})
    assert copied.meaning("gpt") is Model.AUTO
    assert not copied.dialect("p").stream_options
    assert str(copied.policy.zone) == "UTC"


def test_a_copy_with_what_is_no_field_is_refused_and_secrets_stay_in_a_copy() -> None:
    server = ServerSettings().with_admin_key(SECRET)
    with pytest.raises(TypeError, match="ServerSettings has no field 'prot'"):
        server.model_copy(update={"prot": 1})
    assert server.model_copy(update={"port": 1}).admin_key == server.admin_key
