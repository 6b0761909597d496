"""``flatfee chat``: the answer, its receipt, and failures that name themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flatfee.cli.demo.gateway import DemoGateway
from flatfee.server.providers.simulated import FaultKind, SimulatedFault

if TYPE_CHECKING:
    from tests.cli.conftest import Flatfee, OnTerminal

SOURCES = str(Path(__file__).parents[2] / "src")
ANSWER = "This is sim-large, a simulated model. You said: Name three colours. Nothing was really thought about it.\n"


def test_the_answer_goes_to_standard_output_and_the_receipt_to_standard_error(
    flatfee: Flatfee, asks: dict[str, str]
) -> None:
    shown = flatfee("chat", "Name three colours", "--workflow", "run-42", env=asks)
    assert (shown.exit_code, shown.stdout) == (0, ANSWER)
    assert "Served on the premium lane by sim-large via north-premium" in shown.stderr
    for fact in ("run-42", "tokens", "fair-use left", "req_", "north-premium: ok 200"):
        assert fact in shown.stderr


def test_a_dash_reads_the_prompt_from_standard_input(flatfee: Flatfee, asks: dict[str, str]) -> None:
    shown = flatfee("chat", "-", env=asks, typed="Name three colours\n")
    assert (shown.exit_code, shown.stdout) == (0, ANSWER)


def test_options_reach_the_gateway(flatfee: Flatfee, asks: dict[str, str]) -> None:
    small = flatfee("chat", "Hi", "--task", "chat", env=asks)
    assert "because the task is small" in small.stderr
    economy = flatfee("chat", "Hi", "--model", "economy", "--max-tokens", "3", env=asks)
    assert economy.stdout == "This is sim-\n"
    assert "budget" in economy.stderr


def test_json_is_one_object_with_answer_and_receipt(flatfee: Flatfee, asks: dict[str, str]) -> None:
    shown = flatfee("chat", "Name three colours", "--json", env=asks)
    told = json.loads(shown.stdout)
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert (told["content"], told["finish_reason"]) == (ANSWER.strip(), "stop")
    assert (told["receipt"]["lane"], told["receipt"]["state"]) == ("premium", "settled")
    assert "attempt_count" not in told["receipt"]


def test_a_refusal_is_named_with_its_code_and_the_cure_on_one_line(flatfee: Flatfee, asks: dict[str, str]) -> None:
    shown = flatfee("chat", "Hi", "--model", "gpt-9", env=asks)
    assert (shown.exit_code, shown.stdout) == (1, "")
    line = shown.stderr.splitlines()[0]
    assert line == "NotFoundError (model_not_found): There is no model 'gpt-9'; use one of: auto, premium, economy."
    assert "req_" in shown.stderr


def test_a_failure_as_json_is_one_object_too(flatfee: Flatfee, asks: dict[str, str]) -> None:
    shown = flatfee("chat", "Hi", "--model", "gpt-9", "--json", env=asks)
    told = json.loads(shown.stdout)
    assert shown.exit_code == 1
    assert told["error"]["name"] == "NotFoundError"
    assert (told["error"]["code"], told["error"]["status"]) == ("model_not_found", 404)
    assert told["receipt"]["state"] == "refused"
    assert len(shown.stderr.splitlines()) == 1


@pytest.mark.slow
def test_when_every_route_fails_each_attempt_is_shown(
    flatfee: Flatfee, asks: dict[str, str], gateway: DemoGateway
) -> None:
    gateway.fail("north")
    gateway.fail("south")
    shown = flatfee("chat", "Hi", env=asks)
    assert shown.exit_code == 1
    assert shown.stderr.startswith("FallbackExhausted (fallback_exhausted): ")
    for route in ("north-premium", "south-premium", "north-economy", "south-economy"):
        assert f"{route}: error 500" in shown.stderr


def test_an_answer_that_breaks_off_is_a_failure_below_what_was_said(
    flatfee: Flatfee, asks: dict[str, str], gateway: DemoGateway
) -> None:
    for route, provider in (("north-premium", "north"), ("south-premium", "south")):
        gateway.providers[provider].script(route, always=SimulatedFault(kind=FaultKind.BREAK_MIDWAY))
    shown = flatfee("chat", "Name three colours", env=asks)
    assert shown.exit_code == 1
    assert ANSWER.startswith(shown.stdout.strip())
    assert shown.stdout.endswith("\n")
    assert "ServiceUnavailableError (provider_unavailable)" in shown.stderr


def test_a_wrong_key_says_where_it_is_read_and_does_not_show_it(flatfee: Flatfee, asks: dict[str, str]) -> None:
    shown = flatfee("chat", "Hi", env=asks | {"FLATFEE_API_KEY": "ff_proj_not-a-key"})
    assert shown.exit_code == 1
    assert "AuthenticationError (invalid_api_key)" in shown.stderr
    assert "FLATFEE_API_KEY" in shown.stderr
    assert "not-a-key" not in shown.output


@pytest.mark.slow
def test_a_gateway_out_of_reach_is_told_with_a_cure(flatfee: Flatfee, asks: dict[str, str]) -> None:
    shown = flatfee("chat", "Hi", "--base-url", "http://127.0.0.1:9/v1", env=asks)
    assert shown.exit_code == 1
    assert shown.stderr.startswith("APIConnectionError: The connection to http://127.0.0.1:9 failed")
    assert "--base-url" in shown.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("Hi", "--workflow", "a b"), "workflow is 'a b'; use 1 to 128"),
        (("Hi", "--base-url", "ftp://x"), "base_url 'ftp://x' is not"),
        (("  ",), "The prompt is empty"),
        (("Hi", "--task", "cook"), "'cook' is not one of"),
        (("Hi", "--max-tokens", "0"), "greater than or equal to 1"),
    ],
)
def test_a_wrong_argument_is_told_before_anything_is_sent(
    flatfee: Flatfee, asks: dict[str, str], gateway: DemoGateway, arguments: tuple[str, ...], says: str
) -> None:
    shown = flatfee("chat", *arguments, env=asks)
    assert shown.exit_code == 2
    assert says in shown.stderr.replace("\n", " ")
    assert [provider.calls for provider in gateway.providers.values()] == [[], []]


def test_without_a_key_the_variable_is_named(flatfee: Flatfee) -> None:
    shown = flatfee("chat", "Hi")
    assert shown.exit_code == 2
    assert "Set FLATFEE_API_KEY" in shown.stderr


@pytest.mark.processes
def test_standard_input_that_is_no_text_is_told(asks: dict[str, str]) -> None:
    line = [sys.executable, "-m", "flatfee", "chat", "-"]
    env = os.environ | asks | {"PYTHONPATH": SOURCES, "PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(line, input=b"caf\xe9", env=env, capture_output=True, check=False, timeout=60)
    assert done.returncode == 2
    assert b"Standard input is not UTF-8: byte 3" in done.stderr


@pytest.mark.slow
def test_a_model_cannot_steer_the_terminal(on_terminal: OnTerminal, asks: dict[str, str], flatfee: Flatfee) -> None:
    """The simulated model repeats the prompt. A pipe gets it as it is; a terminal gets no control characters."""
    evil = "\x1b]0;owned\x07hello\x9b2J"
    code, screen = on_terminal("chat", evil, env=asks)
    assert code == 0
    assert "hello" in screen
    assert "\x1b]0" not in screen
    assert "\x07" not in screen
    assert "\x9b" not in screen
    assert evil in json.loads(flatfee("chat", evil, "--json", env=asks).stdout)["content"]


@pytest.mark.processes
def test_a_reader_that_leaves_is_no_traceback(asks: dict[str, str]) -> None:
    line = f"{sys.executable} -m flatfee chat Hello | head -c 1"
    env = os.environ | asks | {"PYTHONPATH": SOURCES}
    done = subprocess.run(["bash", "-c", line], env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "T"
    assert "Traceback" not in done.stderr
