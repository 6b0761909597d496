"""What another configuration changes, and what it cannot; names only, never what may be a secret."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import pytest
from tests.server.fakes import KEY
from tests.server.reload.conftest import ENV, PROVIDERS, ROUTES, text

from flatfee.server.configuration import parse_settings
from flatfee.server.reload.changes import Changes, Difference, changes_between, need_restart
from flatfee.server.reload.reloader import summary
from flatfee.server.reload.source import Source
from flatfee.server.settings import Settings

SECRET = "canary-of-a-provider"


def read(env: Mapping[str, str] = ENV, /, **parts: str) -> Settings:
    return parse_settings(text(**parts), source="flatfee.toml", env=env)


def test_the_same_settings_differ_in_nothing() -> None:
    changes = changes_between(read(), read())
    assert not changes
    assert summary(changes) == {"changed": False}


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"providers": PROVIDERS.replace("}", f', api_key = "{SECRET}"}}')}, {"providers": "~fake"}),
        ({"routes": ROUTES.replace("first", "other")}, {"routes": "+other -first"}),
        ({"projects": "[]"}, {"accounts": "~acme"}),
        ({"more": '[aliases]\n"gpt" = "auto"'}, {"aliases": "+gpt"}),
        ({"more": "[receipts]\nretention_days = 90"}, {"settings": "receipts.retention_days"}),
        ({"more": "[policy]\neconomy_may_use_premium = true"}, {"settings": "policy.economy_may_use_premium"}),
        (
            {"server": "max_requests = 5, shutdown_grace = 3.0"},
            {"settings": "server.max_requests server.shutdown_grace"},
        ),
    ],
)
def test_a_change_is_told_by_name(parts: dict[str, str], told: dict[str, str]) -> None:
    changes = changes_between(read(), read(**parts))
    assert summary(changes) == told
    assert SECRET not in repr(changes)


@pytest.mark.parametrize(
    ("name", "told"), [("CI_KEY", {"accounts": "~acme"}), ("FLATFEE_ADMIN_KEY", {"settings": "admin_key"})]
)
def test_a_changed_secret_is_a_change_and_is_not_shown(name: str, told: dict[str, str]) -> None:
    changes = changes_between(read(), read(ENV | {name: f"{SECRET}-with-forty-characters-at-least"}))
    assert summary(changes) == told
    assert KEY not in repr(changes)
    assert SECRET not in repr(changes)


def test_rules_go_by_their_name() -> None:
    rule = '{name = "nights", when = {tools = true}, tier = "premium", reason = "default"}'
    before, after = (
        read(more=f"policy = {{rules = [{rule}]}}"),
        read(more=f"policy = {{rules = [{rule.replace('true', 'false')}]}}"),
    )
    assert changes_between(before, after).rules == Difference(changed=("nights",))


def test_rules_without_a_name_go_by_their_place() -> None:
    rule = '{when = {tools = true}, tier = "premium", reason = "default"}'
    other = rule.replace("true", "false")
    before, after = read(more=f"policy = {{rules = [{rule}]}}"), read(more=f"policy = {{rules = [{other}, {rule}]}}")
    assert changes_between(before, after).rules == Difference(added=("1",), changed=("0",))


def test_many_names_are_cut() -> None:
    told = summary(Changes(routes=Difference(added=tuple(f"route-{number}" for number in range(1000)))))
    assert len(str(told["routes"])) == 200


def test_only_what_is_taken_at_the_start_needs_a_restart() -> None:
    lines = need_restart(read(), read(server='host = "::1", max_requests = 5, max_header_bytes = 2048'))
    assert lines == [
        "server.host: is '127.0.0.1', and '::1' needs a restart; leave it as it was to reload the rest",
    ]


def test_the_file_of_a_source_is_read_with_the_digest_of_what_it_says(tmp_path: Path) -> None:
    path = tmp_path / "flatfee.toml"
    path.write_text(text())
    assert Source(path=path, env=ENV).read_with_digest() == (read(), sha256(path.read_bytes()).hexdigest())
