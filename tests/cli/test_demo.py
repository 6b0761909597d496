"""``flatfee demo``: it shows what it promises, ends by itself, and says so when it did not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer

from flatfee import Lane, Receipt
from flatfee.cli.app import app
from flatfee.cli.demo import command
from flatfee.cli.demo.gateway import DemoGateway, GatewayNotStarted, demo_text, running_gateway
from flatfee.cli.demo.script import RUN, Outcome, play
from flatfee.server.run import GatewayServer

pytestmark = pytest.mark.processes

if TYPE_CHECKING:
    from tests.cli.conftest import Flatfee, OnTerminal

ROOT = Path(__file__).parents[2]
PROMISED = (*Lane, "FallbackExhausted")


def run_demo(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flatfee", "demo", *arguments],
        env={name: value for name, value in os.environ.items() if name != "FORCE_COLOR"}
        | {"PYTHONPATH": str(ROOT / "src")}
        | env,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_every_lane_and_the_named_failure_are_shown_without_a_terminal() -> None:
    done = run_demo("--fast")
    assert (done.returncode, done.stderr) == (0, "")
    assert [word for word in PROMISED if word not in done.stdout] == []
    assert "\x1b" not in done.stdout
    assert "-m flatfee serve" in done.stdout, "the hint must work where this command did"
    tried = done.stdout.splitlines()
    assert len([line for line in tried if line.startswith("  tried  ")]) == 3, "attempts must not look like steps"


@pytest.mark.processes
def test_the_caller_s_own_gateway_and_proxy_are_left_alone() -> None:
    nowhere = "http://127.0.0.1:9"
    done = run_demo("--fast", HTTP_PROXY=nowhere, http_proxy=nowhere, FLATFEE_BASE_URL=nowhere, FLATFEE_PORT="0")
    assert done.returncode == 0, done.stderr


@pytest.mark.processes
def test_on_a_terminal_the_table_is_redrawn_and_fits(on_terminal: OnTerminal) -> None:
    code, screen = on_terminal("demo", "--fast")
    assert code == 0
    assert [word for word in PROMISED if word not in screen] == []
    assert "\x1b[2K" in screen
    assert "…\x1b" not in screen.rpartition("\x1b[2K")[2], "a cell of the finished table was cut"


@pytest.mark.processes
def test_a_lane_that_did_not_occur_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    """With more fair-use than the run can spend there is no continuation."""
    rich = demo_text().replace("fair_use = 910", "fair_use = 100000")
    with pytest.raises(typer.Exit) as ended:
        command.perform(rich, pace=0.0)
    assert ended.value.exit_code == 1
    assert "did not show the continuation lane" in capsys.readouterr().err


def test_a_failure_that_the_run_does_not_expect_ends_it_with_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    """A plan without continuation refuses what fair-use does not cover."""
    strict = demo_text().replace("output_reserve = 256", "output_reserve = 256\ncontinuation = false")
    with pytest.raises(typer.Exit) as ended:
        command.perform(strict, pace=0.0)
    assert ended.value.exit_code == 1
    assert "broke off: BillingError" in capsys.readouterr().err


def test_a_run_without_its_failure_misses_the_failure(gateway: DemoGateway) -> None:
    from flatfee import Client

    with Client(api_key=gateway.key, base_url=gateway.url) as client:
        outcome = play(RUN[:1], client, Nobody(), fail=gateway.fail, pace=0.0)
    assert outcome.lanes == {Lane.PREMIUM}
    assert outcome.missing() == [
        "the budget lane",
        "the continuation lane",
        "the fallback lane",
        "FallbackExhausted",
    ]


def test_nothing_is_promised_that_an_empty_run_would_keep() -> None:
    assert len(Outcome().missing()) == len(PROMISED)


def test_a_gateway_that_ends_before_it_is_ready_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(GatewayServer, "run", lambda self: None)
    with pytest.raises(GatewayNotStarted), running_gateway(demo_text()):
        pass
    with pytest.raises(typer.Exit):
        command.perform(demo_text(), pace=0.0)
    assert "broke off: GatewayNotStarted" in capsys.readouterr().err


def test_the_gateway_lets_go_of_its_port(gateway: DemoGateway) -> None:
    with running_gateway(demo_text()) as other:
        assert other.url != gateway.url
        assert other.key != gateway.key


def test_the_proxy_setting_of_the_caller_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "example.org")
    with command.without_proxy():
        assert os.environ["no_proxy"] == "127.0.0.1"
    assert os.environ["no_proxy"] == "example.org"


class Nobody:
    """An audience that does not look."""

    def begins(self, step: object) -> None: ...
    def hears(self, text: str) -> None: ...
    def served(self, step: object, receipt: Receipt) -> None: ...
    def failed(self, step: object, error: BaseException) -> None: ...


def test_the_command_is_part_of_the_command_line(flatfee: Flatfee) -> None:
    shown = flatfee("demo", "--fast")
    assert shown.exit_code == 0, shown.output
    assert "demo" in {command.callback.__name__ for command in app.registered_commands if command.callback}
