"""The command: write the file, make the ledger and what is in it, and say what to type next."""

from __future__ import annotations

import os
import shlex
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from flatfee.cli.admin.reach import Misplaced, admin, end
from flatfee.cli.init.draft import OPENAI, PLAN, SIMULATED, Choice, draft
from flatfee.cli.invoked import command
from flatfee.cli.serve import DEFAULT_FILE

if TYPE_CHECKING:
    from flatfee.server.settings import ServerSettings, Settings

_LEDGER: Final = "flatfee.db"
_BESIDE: Final = ("", "-turn", "-wal", "-shm")
"""Endings of the ledger's own files."""

_NAME: Final = "default"

_NEXT: Final = """\
{config} is written, and {ledger} holds account '{name}' with project '{name}' and their keys.

The admin key, for the admin API and for commands with --url. It is not shown again:

  export FLATFEE_ADMIN_URL={admin_url} FLATFEE_ADMIN_KEY={admin}

Start the gateway:

  {start}

and in another terminal ask it. The project's key is not shown again:

  export FLATFEE_BASE_URL={url} FLATFEE_API_KEY={project}
  {flatfee} chat "Hello"
"""


def init(
    config: Annotated[
        Path, typer.Option("--config", help="The file to write; its ledger is made beside it.")
    ] = DEFAULT_FILE,
    provider: Annotated[
        str, typer.Option("--provider", help="simulated, openai, or the URL of an OpenAI-compatible server.")
    ] = "simulated",
    model: Annotated[str | None, typer.Option("--model", help="With a URL: the model to ask it for.")] = None,
    key_env: Annotated[
        str | None, typer.Option("--key-env", help="With a URL: the environment variable that holds the server's key.")
    ] = None,
) -> None:
    """Write a configuration that works, and make a ledger with an account, a project and their keys.

    Shows both keys, this once, and the commands to type next. Nothing that is there is written over: exits
    with 2 then.
    """
    try:
        choice = _choice(provider, model, key_env)
        text, settings = _drafted(config, choice)
        ledger = _free(config, settings.server.store)
        _write(config, text)
    except Misplaced as error:
        end(str(error), 2)
    secrets = _make(config, ledger)
    typer.echo(_next(config, ledger, settings.server, choice, secrets))


def _choice(provider: str, model: str | None, key_env: str | None) -> Choice:
    known = {SIMULATED.name: SIMULATED, OPENAI.name: OPENAI}
    if provider in known:
        if model is not None or key_env is not None:
            raise Misplaced("--model and --key-env are for a --provider that is a URL; edit the file for the others.")
        return known[provider]
    if not provider.startswith(("http://", "https://")):
        message = f"There is no provider {provider!r}; use simulated, openai, or a URL such as http://127.0.0.1:8080/v1"
        raise Misplaced(message)
    if model is None:
        raise Misplaced("Say which model to ask the server for: --model NAME")
    return Choice(name="upstream", kind="openai", base_url=provider, key_env=key_env, premium=model, economy=model)


def _drafted(config: Path, choice: Choice) -> tuple[str, Settings]:
    """Return the file's text, and what a gateway here will understand by it.

    Raises:
        Misplaced: it would not be understood.
    """
    from flatfee.server.configuration import SettingsError, parse_settings

    # A relative path is that of the working directory, so only beside a file that is found there.
    here = config.parent.resolve() == Path.cwd()
    store = f"sqlite:///{_LEDGER if here else config.parent.resolve() / _LEDGER}"
    template = resources.files("flatfee.cli.init").joinpath("flatfee.toml").read_text(encoding="utf-8")
    text = draft(template, choice, store)
    secrets = {choice.key_env: "to be exported"} if choice.key_env is not None else {}
    try:
        return text, parse_settings(text, source=str(config), env={**os.environ, **secrets})
    except SettingsError as error:
        raise Misplaced(str(error)) from error


def _free(config: Path, store: str) -> Path:
    """Return the path of the ledger, if neither it nor the file is there.

    Raises:
        Misplaced: one is, or the environment names no file for the ledger.
    """
    from flatfee.server.doctor.ledger import ledger_path

    ledger = ledger_path(store)
    if ledger is None:
        raise Misplaced("FLATFEE_STORE says memory://, where no account would be kept: unset it.")
    for path in (config, ledger):
        if path.exists():
            message = f"{path} is there already, and is not written over; name another file: --config"
            raise Misplaced(message)
    return ledger


def _write(config: Path, text: str) -> None:
    try:
        config.parent.mkdir(parents=True, exist_ok=True)
        with config.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise Misplaced(f"{config} cannot be written: {error.strerror}.") from error


def _make(config: Path, ledger: Path) -> dict[str, str]:
    """Make what a first request needs; return the secrets by their keys' kind. All or nothing stays."""
    ours = [path for ending in _BESIDE if not (path := ledger.with_name(ledger.name + ending)).exists()]
    try:
        with admin(None, config, as_json=False) as api:
            api.post("/accounts", {"name": _NAME, "plan": PLAN})
            api.post(f"/accounts/{_NAME}/projects", {"name": _NAME})
            project = {"kind": "project", "account": _NAME, "project": _NAME, "name": _NAME}
            return {
                "project": api.post("/keys", project)["secret"],
                "admin": api.post("/keys", {"kind": "admin", "name": _NAME})["secret"],
            }
    except BaseException:
        for path in (config, *ours):
            path.unlink(missing_ok=True)
        raise


def _next(config: Path, ledger: Path, server: ServerSettings, choice: Choice, secrets: dict[str, str]) -> str:
    start = f"{command()} serve" if config == DEFAULT_FILE else f"{command()} serve --config {shlex.quote(str(config))}"
    if choice.key_env is not None and not os.environ.get(choice.key_env):
        start = f"export {choice.key_env}=…  # the provider's key\n  {start}"
    admin_url = f"http://{server.host}:{server.port}"
    return _NEXT.format(
        config=config,
        ledger=ledger,
        name=_NAME,
        start=start,
        url=f"{admin_url}/v1",
        admin_url=admin_url,
        flatfee=command(),
        **secrets,
    )
