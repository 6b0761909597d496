"""From text and environment to settings; every mistake is told with file, key, value and cure."""

import logging
from importlib import resources
from pathlib import Path

import pytest

from flatfee.server.configuration import ENVIRONMENT, SettingsError, parse_settings
from flatfee.server.keys import KeyKind, new_key
from flatfee.server.reload.source import Source
from flatfee.server.settings import Settings
from flatfee.wire import Model, Reason, Task, Tier

SECRET = "canary-" + "x" * 40
BASE = """
[[providers]]
name = "sim"
kind = "simulated"

[[routes]]
name = "sim-premium"
provider = "sim"
model = "large"
tier = "premium"

[[plans]]
name = "pro"
fair_use = 100
"""
ACCOUNT = """
[[accounts]]
name = "acme"
plan = "pro"
[[accounts.projects]]
name = "ci"
keys = [{name = "ci", key_env = "CI_KEY"}]
"""
CONTRACT = """
[server]
host = "127.0.0.1"
port = 8787
store = "sqlite:///flatfee.db"
durability = "process"
admin_key_env = "FLATFEE_ADMIN_KEY"
max_body_bytes = 33554432

[[providers]]
name = "openai"
kind = "openai"
base_url = "https://api.openai.com/v1"
api_key_env = "OPENAI_API_KEY"

[[routes]]
name = "openai-premium"
provider = "openai"
model = "gpt-5.1"
tier = "premium"
priority = 1
weight = 1
context_tokens = 400000
capabilities = ["tools", "json_schema", "images"]
prefill = false
connect_timeout = 5.0
first_token_timeout = 10.0
idle_timeout = 30.0
total_timeout = 600.0
meter = {input = 1.0, cached_input = 0.1, output = 4.0}

[[plans]]
name = "pro"
fair_use = 2000000
meter = "tokens"
window = "month"
output_reserve = 4096
concurrent_workflows = 4
workflow_idle = 120.0
requests_per_minute = 300
continuation = true
continuation_limit = 20000000

[[accounts]]
name = "acme"
plan = "pro"
billing = "active"
billing_day = 1
[[accounts.projects]]
name = "ci"
keys = [{name = "ci", key_env = "ACME_CI_KEY"}]

[policy]
economy_may_use_premium = false
rules = [ {when = {task = ["plan", "edit", "review", "final"]}, tier = "premium", reason = "fragile_reasoning"} ]

[aliases]
"gpt-5" = "premium"
"""


def parse(text: str, **env: str) -> Settings:
    return parse_settings(text, source="flatfee.toml", env=env)


def problems(text: str, **env: str) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        parse(text, **env)
    assert str(raised.value) == "\n".join(f"flatfee.toml: {problem}" for problem in raised.value.problems)
    return list(raised.value.problems)


def test_the_contracts_example_is_understood() -> None:
    settings = parse(CONTRACT, OPENAI_API_KEY=SECRET, ACME_CI_KEY=new_key(KeyKind.PROJECT))
    (provider,), (route,), (plan,), (account,) = settings.providers, settings.routes, settings.plans, settings.accounts
    assert provider.api_key is not None
    assert provider.api_key.get_secret_value() == SECRET
    assert (route.context_tokens, route.first_token_timeout) == (400_000, 10.0)
    assert route.capabilities == frozenset(("tools", "json_schema", "images"))
    assert (plan.requests_per_minute, plan.continuation_limit) == (300, 20_000_000)
    assert account.projects[0].keys[0].secret.get_secret_value().startswith("ff_proj_")
    (rule,) = settings.policy.rules
    assert rule.when.task == (Task.PLAN, Task.EDIT, Task.REVIEW, Task.FINAL)
    assert (rule.tier, rule.reason) == (Tier.PREMIUM, Reason.FRAGILE_REASONING)
    assert settings.aliases == {"gpt-5": Model.PREMIUM}


def test_the_packaged_demo_is_understood() -> None:
    text = resources.files("flatfee.server").joinpath("demo.toml").read_text("utf-8")
    settings = parse(text, FLATFEE_DEMO_KEY=new_key(KeyKind.PROJECT))
    assert {route.tier for route in settings.routes} == {Tier.PREMIUM, Tier.ECONOMY}


def test_nothing_but_what_is_needed_need_be_said() -> None:
    assert parse(BASE).accounts == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[server]\nprot = 1\n" + BASE, "server.prot: unknown key; did you mean 'port'?"),
        (BASE + "[sever]\n", "sever: unknown key; did you mean 'server'?"),
        (BASE + "fairuse = 1\n", "plans[0].fairuse: unknown key; did you mean 'fair_use'?"),
        (BASE.replace('tier = "premium"', 'tier = "fast"'), "routes[0].tier: unknown value 'fast'; use 'premium' or"),
        (BASE.replace('"simulated"', '"grok"'), "providers[0].kind: unknown kind 'grok'; did you mean 'groq'?"),
        (BASE.replace('"simulated"', '"bedrock"'), "providers[0].kind: unknown kind 'bedrock'; use one of: openai, az"),
        (
            BASE.replace('provider = "sim"', 'provider = "sin"'),
            "routes[0].provider: there is no 'sin'; use one of: sim",
        ),
        (BASE.replace("fair_use = 100", "fair_use = -5"), "plans[0].fair_use: -5 is not possible: input should be gr"),
        (BASE.replace("fair_use = 100\n", ""), "plans[0].fair_use: is missing; add it"),
        (BASE + 'window = "5x"\n', "plans[0].window: unknown window '5x'; use 'month' or a length such as '5h'"),
        (BASE + 'fair_use = 1\n[aliases]\npremium = "auto"\n', "is not TOML: Cannot overwrite a value"),
        (BASE + '[aliases]\npremium = "auto"\n', "aliases.premium: is a model of every gateway and cannot be an alias"),
        (BASE + '[aliases]\ngpt = "fast"\n', "aliases.gpt: unknown value 'fast'; use 'auto', 'premium' or 'economy'"),
        ("plans = 3\n" + BASE.partition("[[plans]]")[0], "plans: 3 is not possible; write a list"),
        ("server = 3\n" + BASE, "server: 3 is not possible; write a table"),
        ("aliases = 3\n" + BASE, "aliases: 3 is not possible; write a table"),
        ("plans = []\n" + BASE.partition("[[plans]]")[0], "plans: needs at least one entry"),
        ("x = [\n", "is not TOML: "),
        ("x = " + "[" * 5000, "is nested too deeply; take brackets away"),
        (
            BASE + '[[providers]]\nname = "o"\nkind = "azure-openai"\n',
            "providers[1]: provider 'o' needs base_url, such as 'https://RESOURCE.openai.azure.com/openai/v1'",
        ),
        (
            BASE + '[[providers]]\nname = "o"\nkind = "ollama"\n[providers.dialect]\nleaveout = ["user"]\n',
            "providers[1].dialect.leaveout: unknown key; did you mean 'leave_out'?",
        ),
        (
            BASE + '[[providers]]\nname = "o"\nkind = "ollama"\n[providers.dialect]\nleave_out = ["model"]\n',
            "providers[1].dialect.leave_out: 'model' is what the gateway itself sends; name another member",
        ),
        (
            BASE + '[[providers]]\nname = "o"\nkind = "ollama"\n[providers.dialect]\nrename = {seed = "stream"}\n',
            "providers[1].dialect.rename: 'stream' is what the gateway itself sends; name another member",
        ),
        (
            BASE + '[[providers]]\nname = "o"\nkind = "ollama"\n[providers.dialect]\nprefill = "begin"\n',
            "providers[1].dialect.prefill: unknown value 'begin'; use 'plain', 'prefix', 'continue' or 'refused'",
        ),
        (
            BASE + '[policy]\nrules = [{when = {tsk = ["plan"]}, tier = "premium", reason = "default"}]\n',
            "policy.rules[0].when.tsk: unknown key; did you mean 'task'?",
        ),
        (
            BASE + '[policy]\nrules = [{when = {task = ["paint"]}, tier = "premium", reason = "default"}]\n',
            "policy.rules[0].when.task[0]: unknown value 'paint'; use 'plan', 'edit'",
        ),
        (
            BASE + "[policy.compaction]\nover = 60000\nto = 60000\n",
            "policy.compaction: to is 60000 and over is 60000: a request is trimmed down to less than it may have; low",
        ),
        (BASE + "[policy.compaction]\nover = 60000\n", "policy.compaction.to: is missing; add it"),
        (
            BASE + "[policy.compaction]\nover = 60000\nto = 40000\nkeep_turn = 2\n",
            "policy.compaction.keep_turn: unknown key; did you mean 'keep_turns'?",
        ),
        ("[server]\nhost = " + "7" * 200 + "\n" + BASE, "server.host: " + "7" * 77 + "... is not possible: "),
    ],
)
def test_a_mistake_is_told_with_key_value_and_cure(text: str, expected: str) -> None:
    (problem,) = problems(text)
    assert problem.startswith(expected)


def test_a_key_that_resembles_nothing_is_answered_with_what_exists() -> None:
    (problem,) = problems(BASE + "[policy]\nzzz = 1\n")
    assert problem == "policy.zzz: unknown key; known keys: timezone, economy_may_use_premium, compaction, rules"


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ('[[providers]]\nname = "sim"\nkind = "simulated"\n', "providers[1].name: 'sim' is taken by providers[0]"),
        ('[[plans]]\nname = "pro"\nfair_use = 1\n', "plans[1].name: 'pro' is taken by plans[0]; choose another name"),
        (ACCOUNT + ACCOUNT, "accounts[1].name: 'acme' is taken by accounts[0]"),
        (
            ACCOUNT + '[[accounts.projects]]\nname = "ci"\n',
            "accounts[0].projects[1].name: 'ci' is taken by accounts[0].projects[0]",
        ),
        (
            ACCOUNT.replace("keys = [", 'keys = [{name = "ci", key_env = "OTHER_KEY"}, '),
            "accounts[0].projects[0].keys[1].name: 'ci' is taken by accounts[0].projects[0].keys[0]",
        ),
        (ACCOUNT.replace('"pro"', '"max"'), "accounts[0].plan: there is no 'max'; use one of: pro"),
    ],
)
def test_names_must_exist_and_be_given_once(extra: str, expected: str) -> None:
    found = problems(BASE + extra, CI_KEY=SECRET, OTHER_KEY=SECRET[::-1])
    assert found[0].startswith(expected)


def test_everything_wrong_is_told_at_once() -> None:
    found = problems(BASE.replace("premium", "fast").replace("100", "-1") + "[server]\nport = 99999\n")
    assert [problem.partition(":")[0] for problem in found] == ["server.port", "routes[0].tier", "plans[0].fair_use"]


def test_a_list_is_not_called_empty_because_its_entry_is_wrong() -> None:
    assert len(problems(BASE.replace('"premium"', '"fast"'))) == 1


@pytest.mark.parametrize("value", [None, ""])
def test_a_variable_that_is_not_set_is_named(value: str | None) -> None:
    env = {} if value is None else {"CI_KEY": value, "UP_KEY": value}
    text = BASE.replace('kind = "simulated"', 'kind = "simulated"\napi_key_env = "UP_KEY"') + ACCOUNT
    assert problems(text, **env) == [
        "providers[0].api_key_env: environment variable 'UP_KEY' is not set; export it",
        "accounts[0].projects[0].keys[0].key_env: environment variable 'CI_KEY' is not set; export it",
    ]


@pytest.mark.parametrize("secret", ["canary-too-short", "ff_proj_" + "canary" * 8, "ff_canary" * 6])
def test_a_secret_that_cannot_be_a_key_is_refused_without_being_shown(secret: str) -> None:
    (problem,) = problems(BASE + ACCOUNT, CI_KEY=secret)
    assert problem.startswith(
        "accounts[0].projects[0].keys[0].key_env: the secret in environment variable 'CI_KEY' cannot be a key; use 32"
    )
    assert "canary" not in problem


@pytest.mark.parametrize("kind", [KeyKind.TEAM, KeyKind.ADMIN])
def test_a_key_that_is_for_something_else_is_no_projects(kind: KeyKind) -> None:
    """It would be turned into one, and be lost for what it was made for."""
    secret = new_key(kind)
    (problem,) = problems(BASE + ACCOUNT, CI_KEY=secret)
    assert problem.startswith("accounts[0].projects[0].keys[0].key_env: ")
    assert f"'{kind.prefix}', and a project's key is wanted" in problem
    assert secret not in problem


def test_the_operators_own_key_comes_from_the_environment() -> None:
    assert parse_settings(BASE, source="f", env={}).server.admin_key is None
    server = parse_settings(BASE, source="f", env={"FLATFEE_ADMIN_KEY": SECRET}).server
    assert server.admin_key is not None
    assert server.admin_key.get_secret_value() == SECRET
    assert SECRET not in repr(server)
    other = BASE + '[server]\nadmin_key_env = "OTHER"\n'
    assert parse_settings(other, source="f", env={"FLATFEE_ADMIN_KEY": SECRET}).server.admin_key is None
    assert parse_settings(other, source="f", env={"OTHER": SECRET}).server.admin_key is not None


@pytest.mark.parametrize("secret", ["canary-too-short", "ff_canary" * 6])
def test_an_operators_key_that_anybody_could_guess_is_refused_without_being_shown(secret: str) -> None:
    (problem,) = problems(BASE, FLATFEE_ADMIN_KEY=secret)
    assert problem.startswith(
        "server.admin_key_env: the secret in environment variable 'FLATFEE_ADMIN_KEY' cannot be a key; use 32"
    )
    assert "canary" not in problem


def test_the_operators_key_is_no_callers() -> None:
    (problem,) = problems(BASE + ACCOUNT, CI_KEY=SECRET, FLATFEE_ADMIN_KEY=SECRET)
    assert problem.endswith("the secret in 'CI_KEY' is that of server.admin_key_env; each key needs its own")


def test_two_keys_with_one_secret_are_refused_without_showing_it() -> None:
    text = BASE + ACCOUNT + '[[accounts.projects]]\nname = "web"\nkeys = [{name = "web", key_env = "WEB_KEY"}]\n'
    (problem,) = problems(text, CI_KEY=SECRET, WEB_KEY=SECRET)
    assert problem == (
        "accounts[0].projects[1].keys[0].key_env: the secret in 'WEB_KEY' is that of "
        "accounts[0].projects[0].keys[0]; each key needs its own"
    )


def test_a_key_in_the_file_is_accepted_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        settings = parse(BASE.replace('kind = "simulated"', f'kind = "simulated"\napi_key = "{SECRET}"'))
    assert settings.providers[0].api_key is not None
    assert [record.message for record in caplog.records] == ["settings.api_key_in_file"]
    assert SECRET not in caplog.text


def test_a_key_in_the_file_and_in_the_environment_is_a_contradiction() -> None:
    text = BASE.replace('kind = "simulated"', 'kind = "simulated"\napi_key = "x"\napi_key_env = "UP_KEY"')
    assert problems(text, UP_KEY="y") == ["providers[0]: has both api_key and api_key_env; keep api_key_env"]


@pytest.mark.parametrize(
    "text",
    [
        BASE.replace('kind = "simulated"', f'kind = "simulated"\napi_key = ["{SECRET}"]'),
        BASE.replace('kind = "simulated"', f'kind = "azure-openai"\napi_key = "{SECRET}"'),
        BASE.replace('kind = "simulated"', f'kind = "simulated"\napikey = "{SECRET}"'),
        BASE.replace('kind = "simulated"', f'kind = "openai"\nbase_url = "https://u:{SECRET}@x"'),
        f'providers = {{api_key = "{SECRET}"}}\nroutes = []\nplans = []\n',
        f'providers = [{{api_key = "{SECRET}"}}]\nroutes = []\nplans = []\n',
    ],
)
def test_no_mistake_shows_a_secret_neither_does_what_caused_it(text: str) -> None:
    with pytest.raises(SettingsError) as raised:
        parse(text)
    assert SECRET not in str(raised.value)
    assert SECRET not in str(raised.value.__cause__)


def test_a_wrong_api_key_is_told_without_its_value() -> None:
    (problem,) = problems(BASE.replace('kind = "simulated"', 'kind = "simulated"\napi_key = 1234567'))
    assert problem.startswith("providers[0].api_key: the value is not possible: ")


def test_the_environment_overrides_the_file() -> None:
    env = {
        "FLATFEE_HOST": "0.0.0.0",
        "FLATFEE_PORT": "9000",
        "FLATFEE_STORE": "memory://",
        "FLATFEE_DURABILITY": "power",
    }
    assert set(env) == set(ENVIRONMENT)
    server = parse("[server]\nport = 1\nmax_requests = 7\n" + BASE, **env).server
    assert (server.host, server.port, server.store, server.durability) == ("0.0.0.0", 9000, "memory://", "power")
    assert server.max_requests == 7
    assert parse(BASE, **env).server.port == 9000


def test_a_wrong_override_names_its_variable() -> None:
    (problem,) = problems(BASE, FLATFEE_PORT="abc")
    assert problem.startswith("server.port (from FLATFEE_PORT): 'abc' is not possible: ")


def test_a_table_that_is_no_table_is_told_even_when_it_is_overridden() -> None:
    assert problems("server = 3\n" + BASE, FLATFEE_PORT="1") == ["server: 3 is not possible; write a table"]


def test_a_file_is_read_and_named(tmp_path: Path) -> None:
    path = tmp_path / "flatfee.toml"
    path.write_text(BASE, "utf-8")
    assert Source(path=path, env={}).read().routes[0].name == "sim-premium"
    path.write_text("x = 1\n" + BASE, "utf-8")
    with pytest.raises(SettingsError, match=r"flatfee\.toml: x: unknown key") as raised:
        Source(path=path, env={}).read()
    assert raised.value.source == str(path)


@pytest.mark.parametrize("content", [None, b"\xff\xfe not UTF-8"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "flatfee.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"flatfee\.toml: cannot be read: "):
        Source(path=path, env={}).read()


def test_an_operators_rules_replace_the_default_table() -> None:
    rule = '[[policy.rules]]\ntier = "premium"\nreason = "context_size"\nwhen = {context_over = 5}\n'
    (found,) = parse(BASE + rule).policy.rules
    assert (found.tier, found.reason, found.when.context_over) == (Tier.PREMIUM, Reason.CONTEXT_SIZE, 5)


@pytest.mark.parametrize(
    "text",
    [
        BASE + '[server]\nstore = "postgresql://user:canary@h/db"\n',
        BASE + '[server]\nstore = "sqlite:///a.db?key=canary"\n',
        BASE.replace('kind = "simulated"', 'kind = "openai"\nbase_url = "ftp://u:canary@host/v1"'),
        BASE.replace('kind = "simulated"', 'kind = "openai"\nbase_url = "api.test/v1?key=canary"'),
        BASE.replace('kind = "simulated"', 'kind = "simulated"\napi_key_env = "sk-canary-1234"'),
        BASE.replace('kind = "simulated"', 'kind = "simulated"\napi_key_env = "sk_canary_1234"'),
        BASE + ACCOUNT.replace("CI_KEY", "ff_proj_canary"),
    ],
)
def test_a_secret_in_the_wrong_place_is_not_shown(text: str) -> None:
    (problem,) = problems(text)
    assert "canary" not in problem


def test_a_store_that_is_not_there_yet_is_answered_with_those_that_are() -> None:
    (problem,) = problems(BASE + '[server]\nstore = "postgresql://h/db"\n')
    assert problem == "server.store: is not a store; use 'memory://' or 'sqlite:///PATH'"


def test_a_bad_name_is_answered_with_what_a_name_is() -> None:
    (problem,) = problems(BASE.replace('"pro"', '"a b"'))
    assert problem.startswith("plans[0].name: 'a b' is not a name; use letters, digits and . _ -")


@pytest.mark.parametrize("reason", ["provider_timeout", "important"])
def test_a_rule_may_only_give_a_reason_of_the_policy(reason: str) -> None:
    rule = f'[policy]\nrules = [{{tier = "premium", reason = "{reason}"}}]\n'
    (problem,) = problems(BASE + rule)
    assert problem == (
        f"policy.rules[0].reason: {reason!r} is not a reason of the policy; "
        "use one of: fragile_reasoning, small_task, context_size, default"
    )
