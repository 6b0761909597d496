"""``flatfee route``: the dry run, for people and for scripts."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flatfee.cli.demo.gateway import DemoGateway, demo_text

if TYPE_CHECKING:
    from tests.cli.conftest import Flatfee


def words(text: str) -> str:
    return " ".join(text.split())


def test_lane_reason_route_and_what_comes_next_are_shown(flatfee: Flatfee, asks: dict[str, str]) -> None:
    shown = flatfee("route", "Hello", "--task", "plan", env=asks)
    assert shown.exit_code == 0
    told = words(shown.stdout)
    assert "It would be served on the premium lane by sim-large via north-premium" in told
    assert "because the task needs careful reasoning" in told
    assert "reason fragile_reasoning" in told
    assert "if that fails south-premium (fallback, " in told
    assert "units) north-economy (fallback) south-economy (fallback)" in told
    assert "provider_timeout no south-premium (fallback) fallback_exhausted" in told
    assert "256 out" in told


def test_every_rule_that_was_looked_at_says_why_it_did_or_did_not_match(flatfee: Flatfee, asks: dict[str, str]) -> None:
    told = words(flatfee("route", "Hello", "--max-tokens", "20", env=asks).stdout)
    assert "fragile_reasoning no no task hint" in told
    assert "context_size no context is about" in told
    assert "small_task yes context is about" in told


def test_a_named_tier_has_no_rules(flatfee: Flatfee, asks: dict[str, str]) -> None:
    told = flatfee("route", "Hello", "--model", "economy", env=asks).stdout
    assert "budget" in told
    assert "Rules" not in told


def test_json_is_the_gateways_answer(flatfee: Flatfee, asks: dict[str, str]) -> None:
    shown = flatfee("route", "-", "--json", env=asks, typed="Hello")
    told = json.loads(shown.stdout)
    assert (told["object"], told["lane"], told["rules"][-1]) == (
        "route",
        "premium",
        {"rule": "default", "matched": True},
    )


def test_nothing_is_asked_and_nothing_is_charged(flatfee: Flatfee, asks: dict[str, str], gateway: DemoGateway) -> None:
    for _ in range(3):
        flatfee("route", "Hello", env=asks)
    assert [provider.calls for provider in gateway.providers.values()] == [[], []]
    assert "100,000 of 100,000" in flatfee("chat", "Hi", "--model", "economy", env=asks).stderr


def test_a_request_that_would_be_refused_says_so(flatfee: Flatfee, asks: dict[str, str]) -> None:
    shown = flatfee("route", "Hello", "--model", "gpt-9", env=asks)
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert "NotFoundError (model_not_found)" in shown.stderr


# Without a gateway


@pytest.fixture
def config(tmp_path: Path) -> str:
    """The file of the gateway that the other tests ask, without any of its secrets."""
    path = tmp_path / "flatfee.toml"
    path.write_text(demo_text().replace("fair_use = 910", "fair_use = 100000"), "utf-8")
    return str(path)


REQUESTS = [
    ["Hello"],
    ["Plan it", "--task", "plan", "--max-tokens", "20"],
    ["Hello", "--model", "economy"],
    ["Hello", "--model", "premium", "--on-exhausted", "fail"],
    ["--body", "-"],
    ["Hello", "--model", "gpt-9"],
]
BODY = {
    "model": "auto",
    "messages": [{"role": "user", "content": "naïve – 日本"}],
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "n": 2,
}


def test_a_file_tells_the_same_as_its_gateway(flatfee: Flatfee, asks: dict[str, str], config: str) -> None:
    for asked, form in product(REQUESTS, ([], ["--json"])):
        online = flatfee("route", *asked, *form, env=asks, typed=json.dumps(BODY))
        offline = flatfee("route", *asked, *form, "--config", config, typed=json.dumps(BODY))
        assert offline.exit_code == online.exit_code
        if online.exit_code == 0:
            assert offline.stdout == online.stdout
        elif form:
            assert json.loads(offline.stdout)["error"] == json.loads(online.stdout)["error"]


def test_what_is_supposed_decides(flatfee: Flatfee, config: str) -> None:
    def lane(*options: str) -> tuple[str, str]:
        told = json.loads(flatfee("route", "Hello", "--task", "plan", "--json", "--config", config, *options).stdout)
        return told["lane"], told["reason"]

    assert lane() == ("premium", "fragile_reasoning")
    assert lane("--left", "0") == lane("--used", "100000") == ("continuation", "fair_use_exhausted")
    assert lane("--billing", "past_due") == ("continuation", "billing_state")
    assert lane("--down", "north-premium") == ("fallback", "provider_unavailable")
    assert lane("--tool-loop-route", "south-economy") == ("budget", "workflow_affinity")


def test_a_body_that_is_larger_than_the_gateway_takes_is_refused(flatfee: Flatfee, config: str) -> None:
    text = Path(config).read_text("utf-8")
    Path(config).write_text(text.replace("[server]\n", "[server]\nmax_body_bytes = 1024\n"), "utf-8")
    assert flatfee("route", "x" * 900, "--config", config).exit_code == 0
    shown = flatfee("route", "x" * 1024, "--config", config)
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert "(request_too_large): The body is larger than 1024 bytes; send less." in shown.stderr


def test_a_whole_body_may_be_in_a_tool_loop_only_where_it_could_be_in_one(flatfee: Flatfee, config: str) -> None:
    loop = {"messages": [{"role": "user", "content": "x"}, {"role": "tool", "tool_call_id": "1", "content": "42"}]}
    asked = ["route", "--body", "-", "--json", "--config", config, "--tool-loop-route", "south-economy"]
    told = json.loads(flatfee(*asked, "--workflow", "w", typed=json.dumps(loop)).stdout)
    assert (told["reason"], told["route"]) == ("workflow_affinity", "south-economy")
    assert flatfee(*asked, typed=json.dumps(loop)).exit_code == 2
    assert "is no result of a tool" in flatfee(*asked, "--workflow", "w", typed=json.dumps(BODY)).stdout


def test_a_refusal_is_told_as_the_gateway_would(flatfee: Flatfee, config: str) -> None:
    asked = ["route", "Hello", "--model", "premium", "--config", config, "--left", "0", "--on-exhausted", "fail"]
    shown = flatfee(*asked)
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert "BillingError (fair_use_exhausted): 0 of 100000 fair-use units are left" in shown.stderr
    told = json.loads(flatfee(*asked, "--json").stdout)
    assert told["error"]["code"] == "fair_use_exhausted"
    assert told["receipt"]["fair_use"]["limit"] == 100000


WRONG = {
    "no prompt": ([], "Say what to ask, as a prompt or with --body"),
    "two": (["Hello", "--body", "-"], "one of them"),
    "no messages": (["--body", "-"], "it needs an object with a list of messages"),
    "supposed of a gateway": (["Hello", "--used", "5"], "with --config only"),
    "file and gateway": (["Hello", "--config", "FILE", "--base-url", "http://127.0.0.1:1"], "keep one of them"),
    "unknown route": (["Hello", "--config", "FILE", "--down", "nort"], "there is no 'nort'; use one of: north-premium"),
    "unknown plan": (["Hello", "--config", "FILE", "--plan", "gold"], "there is no 'gold'; use one of: "),
    "no time": (["Hello", "--config", "FILE", "--at", "soon"], "at: 'soon' is not possible"),
    "used and left": (["Hello", "--config", "FILE", "--used", "1", "--left", "1"], "used and left, which say the same"),
    "no file": (["Hello", "--config", "missing.toml"], "cannot be read"),
}


@pytest.mark.parametrize(("options", "cure"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_named_with_its_cure(flatfee: Flatfee, config: str, options: list[str], cure: str) -> None:
    shown = flatfee("route", *[config if option == "FILE" else option for option in options], typed="{}")
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert cure in " ".join(shown.stderr.split())
