"""``flatfee init``: what it writes works as it stands, what it prints can be typed, and nothing is written over."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.cli.conftest import environment

from flatfee.cli.init.draft import OPENAI, SIMULATED
from flatfee.server.configuration import parse_settings

if TYPE_CHECKING:
    from tests.cli.conftest import Flatfee

LIMIT = 60.0
KEY = re.compile(r"ff_(?:proj|admin)_[0-9A-Za-z]{49}")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that commands run in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder: Path) -> list[str]:
    """Name the files of a folder, but for those that the ledger's own keeps beside it."""
    found = (path for path in folder.rglob("*") if path.is_file() and ".db-" not in path.name)
    return sorted(str(path.relative_to(folder)) for path in found)


def test_the_first_file_needs_nothing_and_is_well(flatfee: Flatfee, folder: Path) -> None:
    made = flatfee("init")
    assert made.exit_code == 0, made.output
    assert files(folder) == ["flatfee.db", "flatfee.toml"]
    settings = parse_settings((folder / "flatfee.toml").read_text(), source="flatfee.toml", env={})
    assert [route.model for route in settings.routes] == [SIMULATED.premium, SIMULATED.economy]
    assert (settings.server.store, settings.accounts) == ("sqlite:///flatfee.db", ())
    examined = flatfee("doctor")
    assert examined.exit_code == 0
    assert "warn store" not in examined.stdout


def test_what_the_first_file_offers_in_comments_is_understood(flatfee: Flatfee, folder: Path) -> None:
    flatfee("init")
    told = [line.removeprefix("# ") for line in (folder / "flatfee.toml").read_text().splitlines()]
    offered = [line for line in told if line.startswith(("[", '"')) or " = " in line]
    settings = parse_settings("\n".join(offered), source="flatfee.toml", env={})
    assert settings.server.durability == "power"
    assert settings.plans[0].continuation_limit == 20_000_000
    assert [rule.name for rule in settings.policy.rules] == ["nights"]
    assert settings.aliases == {"claude-*": "premium"}


def test_both_keys_are_shown_once_and_are_in_no_file(flatfee: Flatfee, folder: Path) -> None:
    shown = flatfee("init").stdout
    keys = KEY.findall(shown)
    assert sorted(key[:8] for key in keys) == ["ff_admin", "ff_proj_"]
    kept = b"".join((folder / name).read_bytes() for name in files(folder))
    assert [key for key in keys if key.encode() in kept] == []


@pytest.mark.processes
def test_the_commands_that_are_shown_work_as_they_are_printed(flatfee: Flatfee, folder: Path) -> None:
    """In one terminal the gateway, in another the lines below it, and an operator's command with the admin key."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
    env = {"FLATFEE_PORT": port}
    shown = flatfee("init", env=env).stdout
    python = f'flatfee() {{ {sys.executable} -m flatfee "$@"; }}\n'
    admin, start, *ask = [line.strip() for line in shown.splitlines() if line.startswith("  ")]
    start, *ask = [re.sub(r"^\S*python\S* -m flatfee|^flatfee", "flatfee", line) for line in (start, *ask)]
    serving = subprocess.Popen(
        ["bash", "-c", f"{python}exec {sys.executable} -m {start}"],
        env=environment(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert serving.stdout
        assert "ready" in serving.stdout.readline()
        lines = ["set -e", *ask, admin, "flatfee accounts list"]
        done = subprocess.run(
            ["bash", "-c", python + "\n".join(lines)],
            env=environment({}),
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT,
        )
        assert done.returncode == 0, done.stderr
        assert "This is sim-large, a simulated model. You said: Hello." in done.stdout
        assert "default  standard" in done.stdout
    finally:
        serving.terminate()
        serving.communicate(timeout=LIMIT)


def test_in_another_folder_file_and_ledger_are_found_from_anywhere(flatfee: Flatfee, folder: Path) -> None:
    made = flatfee("init", "--config", "gate way/own.toml")
    assert made.exit_code == 0
    assert "serve --config 'gate way/own.toml'\n" in made.stdout
    assert files(folder) == ["gate way/flatfee.db", "gate way/own.toml"]
    settings = parse_settings((folder / "gate way/own.toml").read_text(), source="own.toml", env={})
    assert settings.server.store == f"sqlite:///{folder.resolve()}/gate way/flatfee.db"


@pytest.mark.parametrize("there", ["flatfee.toml", "flatfee.db"])
def test_nothing_that_is_there_is_written_over(there: str, flatfee: Flatfee, folder: Path) -> None:
    (folder / there).write_text("mine")
    shown = flatfee("init")
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert f"{there} is there already" in shown.stderr
    assert (files(folder), (folder / there).read_text()) == ([there], "mine")


def test_openai_wants_its_key_exported_first(flatfee: Flatfee, folder: Path) -> None:
    shown = flatfee("init", "--provider", "openai", env={"OPENAI_API_KEY": ""}).stdout
    assert shown.index("export OPENAI_API_KEY=") < shown.index("serve")
    env = {"OPENAI_API_KEY": "sk-secret"}
    settings = parse_settings((folder / "flatfee.toml").read_text(), source="flatfee.toml", env=env)
    assert settings.providers[0].base_url == "https://api.openai.com/v1"
    assert [route.model for route in settings.routes] == [OPENAI.premium, OPENAI.economy]


def test_a_known_kind_needs_only_a_model(flatfee: Flatfee, folder: Path) -> None:
    shown = flatfee("init", "--provider", "groq", "--model", "large", "--economy-model", "small").stdout
    assert shown.index("export GROQ_API_KEY=") < shown.index("serve")
    text = (folder / "flatfee.toml").read_text()
    settings = parse_settings(text, source="flatfee.toml", env={"GROQ_API_KEY": "secret"})
    assert settings.providers[0].base_url == "https://api.groq.com/openai/v1"
    assert [route.model for route in settings.routes] == ["large", "small"]


def test_a_kind_that_is_somewhere_else_for_everyone_is_told_where(flatfee: Flatfee, folder: Path) -> None:
    url = "https://acme.openai.azure.com/openai/v1"
    shown = flatfee("init", "--provider", "azure-openai", "--base-url", url, "--model", "deployed")
    assert "export AZURE_OPENAI_API_KEY=" in shown.stdout
    settings = parse_settings((folder / "flatfee.toml").read_text(), source="x", env={"AZURE_OPENAI_API_KEY": "k"})
    assert settings.providers[0].base_url == url


def test_an_own_server_wants_no_key(flatfee: Flatfee, folder: Path) -> None:
    shown = flatfee("init", "--provider", "vllm", "--model", "qwen", env={"VLLM_API_KEY": ""})
    assert (shown.exit_code, "VLLM_API_KEY" in shown.stdout) == (0, False)


@pytest.mark.parametrize(
    ("arguments", "seconds"),
    [
        (("ollama",), 60.0),
        (("http://localhost:9000/v1",), 60.0),
        (("ollama", "--base-url", "http://gpu.example:11434/v1"), None),
        (("groq",), None),
    ],
)
def test_a_model_on_this_machine_has_time_to_be_loaded(
    arguments: tuple[str, ...], seconds: float | None, flatfee: Flatfee, folder: Path
) -> None:
    assert flatfee("init", "--model", "qwen", "--provider", *arguments).exit_code == 0
    settings = parse_settings((folder / "flatfee.toml").read_text(), source="x", env={"GROQ_API_KEY": "k"})
    assert [route.first_token_timeout for route in settings.routes] == [seconds, seconds]


def test_a_key_that_is_there_need_not_be_exported(flatfee: Flatfee, folder: Path) -> None:
    shown = flatfee("init", "--provider", "openai", env={"OPENAI_API_KEY": "sk-secret"})
    assert "OPENAI_API_KEY" not in shown.stdout
    assert "sk-secret" not in shown.output + (folder / "flatfee.toml").read_text()


def test_a_url_is_a_provider_with_one_model(flatfee: Flatfee, folder: Path) -> None:
    url = "http://127.0.0.1:8080/v1"
    made = flatfee("init", "--provider", url, "--model", 'ge"mma😀', "--key-env", "UP_KEY")
    assert made.exit_code == 0, made.output
    env = {"UP_KEY": "secret"}
    settings = parse_settings((folder / "flatfee.toml").read_text(), source="flatfee.toml", env=env)
    assert (settings.providers[0].base_url, settings.providers[0].api_key_env) == (url, "UP_KEY")
    assert {route.model for route in settings.routes} == {'ge"mma😀'}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--provider", "acme", "--model", "x"), "providers[0].kind: unknown kind 'acme'; use one of: openai, azure"),
        (("--provider", "grok", "--model", "x"), "providers[0].kind: unknown kind 'grok'; did you mean 'groq'?"),
        (("--provider", "grok"), "providers[0].kind: unknown kind 'grok'; did you mean 'groq'?"),
        (("--provider", "groq"), "Say which model to ask groq for: --model NAME"),
        (
            ("--provider", "azure-openai", "--model", "x"),
            "provider 'azure-openai' needs base_url, such as 'https://RES",
        ),
        (("--model", "x"), "simulated answers have no model, address or key to choose"),
        (("--provider", "http://127.0.0.1:8080/v1"), "--model NAME"),
        (("--provider", "http://a/v1", "--base-url", "http://b/v1", "--model", "x"), "--provider is an address alr"),
        (("--provider", "http://me@127.0.0.1/v1", "--model", "x"), "providers[0].base_url: must have no user"),
        (("--provider", "http://[::1/v1", "--model", "x"), "providers[0].base_url: is not an http or https URL"),
        (("--provider", "http://127.0.0.1:99999/v1", "--model", "x"), "providers[0].base_url: is not an http"),
        (("--provider", "http://127.0.0.1/v1", "--model", "x", "--key-env", "not-a-name"), "is not the name"),
    ],
)
def test_a_wrong_choice_is_told_and_nothing_is_written(
    arguments: tuple[str, ...], says: str, flatfee: Flatfee, folder: Path
) -> None:
    shown = flatfee("init", *arguments)
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert says in shown.stderr
    assert files(folder) == []


def test_a_ledger_that_the_environment_puts_into_memory_is_refused(flatfee: Flatfee, folder: Path) -> None:
    shown = flatfee("init", env={"FLATFEE_STORE": "memory://"})
    assert shown.exit_code == 2
    assert "unset it" in shown.stderr
    assert list(folder.iterdir()) == []


def test_a_place_that_cannot_be_written_is_told(flatfee: Flatfee, folder: Path) -> None:
    (folder / "file").write_text("")
    shown = flatfee("init", "--config", "file/flatfee.toml")
    assert shown.exit_code == 2
    assert "cannot be written" in shown.stderr


def test_where_the_ledger_cannot_be_made_no_file_is_left(flatfee: Flatfee, folder: Path) -> None:
    shown = flatfee("init", env={"FLATFEE_STORE": f"sqlite:///{folder}/missing/ledger.db"})
    assert shown.exit_code == 2
    assert "cannot be opened" in shown.stderr
    assert list(folder.iterdir()) == []


def test_a_failure_takes_away_only_what_was_made(flatfee: Flatfee, folder: Path) -> None:
    (folder / "flatfee.db-turn").mkdir()  # in the way of the ledger
    (folder / "flatfee.db.backup").write_text("the only copy")
    shown = flatfee("init")
    assert shown.exit_code == 2, shown.output
    assert "cannot be opened" in shown.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["flatfee.db-turn", "flatfee.db.backup"]
