"""A gateway is set up by options, or by the file of the user's own; what is wrong is told with its cure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.testing.fakes import HELLO, play

import flatfee
from flatfee.testing import Options, running_gateway

FILE = """
[[providers]]
name = "openai"
kind = "openai"
base_url = "https://api.openai.com/v1"
api_key_env = "SOME_PROVIDERS_KEY"

[[routes]]
name = "best"
provider = "openai"
model = "gpt-9"
tier = "premium"

[[routes]]
name = "cheap"
provider = "openai"
model = "gpt-9-mini"
tier = "economy"

[[plans]]
name = "pro"
fair_use = 5000
concurrent_workflows = 7

[[plans]]
name = "free"
fair_use = 0

[[accounts]]
name = "shop"
plan = "pro"
billing_day = 9
[[accounts.projects]]
name = "web"
keys = [{name = "web", key_env = "SHOP_WEB_KEY"}]

[aliases]
"gpt-9" = "premium"
"""


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"fair_usage": 1}, "no option 'fair_usage'; use fair_use"),
        ({"zzz": 1}, "no option 'zzz'; use one of: fair_use, meter"),
        ({"given": 1}, "no option 'given'"),
        ({"fair_use": -1}, r"running_gateway\(\): fair_use: -1 is not possible: input should be greater"),
        ({"billing": "late"}, r"running_gateway\(\): billing: unknown value 'late'; use 'active'"),
        ({"meter": "words"}, "meter: unknown value 'words'; use 'tokens' or 'requests'"),
        ({"routes": [{"name": "a", "tier": "best"}]}, r"routes\[0\].tier: unknown value 'best'"),
        ({"routes": [3]}, r"routes\[0\]: 3 is not possible; write a table"),
        ({"routes": None}, "routes: None is not possible; write a list"),
        ({"strict": "no"}, "strict='no' is not possible; use True or False"),
        ({"routes": []}, "routes: needs at least one entry"),
        ({"aliases": {"gpt": "fast"}}, "aliases.gpt: unknown value 'fast'; use 'auto', 'premium' or 'economy'"),
        ({"aliases": {"auto": "premium"}}, "aliases.auto: is a model of every gateway"),
        ({"policy": {"rule": []}}, "policy.rule: unknown key; did you mean 'rules'"),
    ],
)
def test_what_is_wrong_is_told_with_its_cure(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told), running_gateway(**wrong):
        pass


def test_options_are_those_of_a_plan() -> None:
    with running_gateway(fair_use=7, meter="requests", window="5h", concurrent_workflows=2, socket=False) as gateway:
        usage = gateway.account.usage
    assert usage.fair_use is not None
    assert usage.workflows is not None
    assert (usage.fair_use.limit, usage.fair_use.unit, usage.workflows.limit) == (7, "request", 2)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLATFEE_STORE", f"sqlite:///{tmp_path}/never.db")
    monkeypatch.setenv("FLATFEE_PORT", "1")
    path = tmp_path / "flatfee.toml"
    path.write_text(FILE, "utf-8")
    return path


def test_a_file_of_the_users_own_sets_a_gateway_up_whose_providers_are_doubles(file: Path) -> None:
    with running_gateway(config=file) as gateway:
        asked = play(gateway)
        answered = gateway.client().chat.completions.create(model="gpt-9", messages=HELLO, max_tokens=9)
        usage = gateway.account.usage
    assert answered.receipt is not None
    assert (answered.receipt.route, answered.receipt.model_served) == ("best", "gpt-9")
    assert [each.route for each in asked.asked] == ["best"]
    assert (usage.account, usage.project, usage.plan) == ("shop", "web", "pro")
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("form", ["path", "text"])
def test_a_file_may_be_a_text_or_its_path(file: Path, form: str) -> None:
    with running_gateway(config=str(file) if form == "path" else FILE, socket=False) as gateway:
        assert gateway.account.name == "shop"
        assert [*gateway.routes] == ["best", "cheap"]


def test_a_key_of_the_environment_is_used(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "shop-web-".ljust(40, "x")
    monkeypatch.setenv("SHOP_WEB_KEY", secret)
    with running_gateway(config=file, socket=False) as gateway:
        assert gateway.api_key == secret
        assert gateway.client().usage.retrieve().account == "shop"


def test_options_go_over_what_the_file_says_of_the_first_account(file: Path) -> None:
    with running_gateway(config=file, fair_use=9, billing="past_due", socket=False) as gateway:
        usage = gateway.account.usage
    assert usage.fair_use is not None
    assert usage.workflows is not None
    assert usage.window is not None
    assert (usage.fair_use.limit, usage.workflows.limit, usage.billing) == (9, 7, "past_due")
    assert usage.window.start.day == 9


def test_what_the_file_lacks_is_made_up() -> None:
    text = FILE[: FILE.index("[[accounts]]")]
    with running_gateway(config=text, socket=False) as gateway:
        assert (gateway.account.name, gateway.account.usage.plan) == ("acme", "pro")
    with running_gateway(config=f'{text}[[accounts]]\nname = "shop"\nplan = "free"\n', socket=False) as gateway:
        assert (gateway.account.usage.account, gateway.account.usage.plan) == ("shop", "free")


@pytest.mark.parametrize(
    ("text", "more", "told"),
    [
        ("x =\n", {}, "config: is not TOML"),
        (FILE.replace("fair_use = 0", "fair_use = -1"), {}, r"config: plans\[1\].fair_use: -1 is not possible"),
        (FILE.replace('plan = "pro"', 'plan = "top"'), {}, r"accounts\[0\].plan: there is no 'top'; use one of: pro"),
        (FILE, {"fair_use": -1}, r"running_gateway\(\): fair_use: -1 is not possible"),
        (FILE, {"routes": []}, "routes= and config= are both given"),
        ("nowhere.toml", {}, "nowhere.toml: cannot be read"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_as_the_gateway_tells_it(text: str, more: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told), running_gateway(config=text, **more):
        pass


def test_a_key_that_cannot_be_one_is_told(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_WEB_KEY", "short")
    with pytest.raises(ValueError, match="SHOP_WEB_KEY' cannot be a key") as told, running_gateway(config=file):
        pass
    assert "short;" not in str(told.value)


def test_a_strangers_key_is_refused() -> None:
    with running_gateway(socket=False) as gateway, running_gateway(socket=False) as other:
        stranger = gateway.client(api_key=other.api_key)
        with pytest.raises(flatfee.AuthenticationError):
            stranger.usage.retrieve()


def test_options_made_by_hand_change_no_file() -> None:
    assert Options(config=FILE).settings().plans[0].fair_use == 5000
