"""``drift`` asks a provider again what was recorded, and tells whether it still answers in that form."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.testing.tapes.upstream import KEY, LEAKED, Upstream
from typer.testing import CliRunner

import flatfee
from flatfee.cli.app import app
from flatfee.testing import running_gateway
from flatfee.testing.tapes import TapeError, Tapes

pytestmark = pytest.mark.slow
"""It goes through many cases; ``make check`` has the time."""

RUNNER = CliRunner()


@pytest.fixture
def config(upstream: Upstream, tmp_path: Path) -> Path:
    path = tmp_path / "flatfee.toml"
    path.write_text(upstream.config)
    return path


@pytest.fixture
def recorded(upstream: Upstream, tapes: Path) -> Path:
    """A plain answer, a stream, a refusal, a limit of both routes, and the first request once more."""
    with running_gateway(record=tapes, config=upstream.config) as gateway, gateway.client(max_retries=0) as client:
        for said in ("hello", "stream", "refuse me", "limit me", "hello"):
            messages = [{"role": "user", "content": said}]
            with suppress(flatfee.APIStatusError):  # of what is refused and limited
                answer: Any = client.chat.completions.create(
                    model="premium", messages=messages, stream=said == "stream"
                )
                list(answer)
            gateway.advance(60)
    upstream.asked.clear()
    return tapes


def renamed(said: dict[str, Any]) -> dict[str, Any]:
    for choice in said.get("choices", ()):
        choice["stop_reason"] = choice.pop("finish_reason")
    return said


def dropped(said: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in said.items() if name != "usage"}


def retyped(said: dict[str, Any]) -> dict[str, Any]:
    return {**said, "created": str(said["created"])} if "created" in said else said


def grown(said: dict[str, Any]) -> dict[str, Any]:
    return {**said, "weather": "fine"}


def test_a_provider_that_answers_as_it_did_has_not_drifted(upstream: Upstream, recorded: Path, config: Path) -> None:
    found = Tapes.load(recorded).drift(config)
    assert found.exit_code == 0, found.text()
    assert [entry.because and entry.because.split(",")[0] for entry in found.compared] == [
        None,
        None,
        None,
        "it was recorded with status 429",
        "it was recorded with status 429",
        "it is the same request as 0001-up-premium-hello.json",
    ]
    assert found.text().splitlines()[-1] == "3 asked, 0 drifted, 0 unclear, 3 not asked"
    assert [body["messages"][-1]["content"] for body in upstream.asked] == ["hello", "stream", "refuse me"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (renamed, "breaking  missing        choices[].finish_reason: recorded string, live nothing"),
        (dropped, "breaking  missing        usage: recorded object, live nothing"),
        (retyped, "breaking  retyped        created: recorded integer, live string"),
    ],
)
def test_a_provider_whose_form_is_another_has_drifted(
    upstream: Upstream, recorded: Path, config: Path, change: Callable[[dict[str, Any]], Any], told: str
) -> None:
    upstream.change = change
    found = Tapes.load(recorded).drift(config, only="0001-*")
    assert found.exit_code == 1
    assert found.text().splitlines()[:2] == ["drifted   0001-up-premium-hello.json (route up-premium)", f"  {told}"]


def test_what_is_new_is_told_and_no_drift(upstream: Upstream, recorded: Path, config: Path) -> None:
    upstream.change = grown
    found = Tapes.load(recorded).drift(config)
    assert found.exit_code == 0
    assert found.text().count("new       added          weather: recorded nothing, live string") == 3


def test_events_that_are_gone_are_drift(upstream: Upstream, recorded: Path, config: Path) -> None:
    upstream.done = False
    found = Tapes.load(recorded).drift(config)
    assert found.exit_code == 1
    assert "events: recorded said, finish, usage, [DONE], live said, finish, usage" in found.text()


def test_a_provider_that_cannot_be_reached_tells_nothing(recorded: Path, tmp_path: Path) -> None:
    config = tmp_path / "other.toml"
    config.write_text(Upstream().config.replace(":0/", ":9/"))
    found = Tapes.load(recorded).drift(config)
    assert found.exit_code == 2
    assert "unclear   0001-up-premium-hello.json: the provider cannot be reached" in found.text()


def test_a_provider_that_is_busy_tells_nothing(upstream: Upstream, recorded: Path, config: Path) -> None:
    path = next(recorded.glob("0001-*"))
    path.write_text(path.read_text("utf-8").replace('"hello"', '"limit me"'), "utf-8")
    found = Tapes.load(recorded).drift(config, only=path.stem)
    assert found.exit_code == 2
    assert "answered with status 429" in found.text()


def test_time_that_is_over_tells_nothing(upstream: Upstream, recorded: Path, config: Path) -> None:
    found = Tapes.load(recorded).drift(config, seconds=0.0)
    assert found.exit_code == 2
    assert "not whole in time" in found.text()


def test_update_takes_out_what_the_recording_did(upstream: Upstream, recorded: Path, config: Path) -> None:
    upstream.change = grown
    Tapes.load(recorded).drift(config, update=True, only="0001-*", redact=["fine", "$.choices[*].message.content"])
    tape = next(recorded.glob("0001-*")).read_text("utf-8")
    assert '"weather": "[redacted]"' in tape
    assert "sunny" not in tape


def test_update_writes_what_is_different_anew(upstream: Upstream, recorded: Path, config: Path) -> None:
    upstream.change = grown
    before = {path.name: path.read_text("utf-8") for path in recorded.iterdir()}
    assert Tapes.load(recorded).drift(config, update=True, only="0001-*").exit_code == 0
    after = {path.name: path.read_text("utf-8") for path in recorded.iterdir()}
    assert [name for name in before if before[name] != after[name]] == ["0001-up-premium-hello.json"]
    assert Tapes.load(recorded).filed[0].tape.answer.body["weather"] == "fine"
    assert Tapes.load(recorded).drift(config, only="0001-*").compared[0].findings == ()
    assert not any(secret in text for text in after.values() for secret in (KEY, LEAKED))


def test_more_requests_than_allowed_are_not_begun(upstream: Upstream, recorded: Path, config: Path) -> None:
    with pytest.raises(TapeError, match="That would be 3 requests, and 2 are allowed"):
        Tapes.load(recorded).drift(config, at_most=2)
    with pytest.raises(TapeError, match="No tape is called 'x'"):
        Tapes.load(recorded).drift(config, only="x")
    assert upstream.asked == []


def test_the_command_says_what_it_asks_and_does_it_after_a_yes(
    upstream: Upstream, recorded: Path, config: Path
) -> None:
    refused = RUNNER.invoke(app, ["drift", str(recorded), "--config", str(config)])
    assert refused.exit_code == 2
    assert "This makes 3 requests to real providers (3 by route 'up-premium'), which may cost money" in refused.output
    assert upstream.asked == []
    shown = RUNNER.invoke(app, ["drift", str(recorded), "--config", str(config), "--yes"])
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.splitlines()[-1] == "3 asked, 0 drifted, 0 unclear, 3 not asked"


def test_the_command_writes_json(upstream: Upstream, recorded: Path, config: Path) -> None:
    upstream.change = renamed
    shown = RUNNER.invoke(app, ["drift", str(recorded), "--config", str(config), "--yes", "--json", "--only", "0001-*"])
    assert shown.exit_code == 1
    said = json.loads(shown.stdout)
    assert said["exit_code"] == 1
    assert said["compared"][0]["findings"][0] == {
        "severity": "breaking",
        "change": "missing",
        "path": "choices[].finish_reason",
        "recorded": "string",
        "live": "nothing",
    }


@pytest.mark.parametrize("wrong", ["tapes", "config", "key"])
def test_the_command_ends_with_2_where_it_cannot_even_ask(
    recorded: Path, config: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    if wrong == "key":
        monkeypatch.delenv("UP_KEY")
    told = {"tapes": "There is no folder", "config": "cannot be read", "key": "'UP_KEY' is not set; export it"}
    arguments = [str(recorded) + "x" * (wrong == "tapes"), "--config", str(config) + "x" * (wrong == "config"), "--yes"]
    shown = RUNNER.invoke(app, ["drift", *arguments])
    assert shown.exit_code == 2
    assert told[wrong] in shown.output
