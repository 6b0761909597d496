"""The command: write the file, make the ledger and what is in it, and say what to type next."""

from __future__ import annotations

import os
import shlex
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlsplit

import typer

from flatfee.cli.admin.reach import Misplaced, admin, end
from flatfee.cli.init.draft import OPENAI, PLAN, SIMULATED, Choice, draft
from flatfee.cli.invoked import command
from flatfee.cli.serve import DEFAULT_FILE

if TYPE_CHECKING:
    from flatfee.server.settings import Settings

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
        str, typer.Option("--provider", help="simulated, a kind such as openai or groq, or the URL of a server.")
    ] = SIMULATED.kind,
    model: Annotated[
        str | None, typer.Option("--model", help="The model to ask for; needed for all but simulated and openai.")
    ] = None,
    economy_model: Annotated[
        str | None, typer.Option("--economy-model", help="The model of the economy route, if another.")
    ] = None,
    base_url: Annotated[
        str | None, typer.Option("--base-url", help="The provider's address, where its kind has none or another.")
    ] = None,
    key_env: Annotated[
        str | None, typer.Option("--key-env", help="The environment variable that holds the provider's key.")
    ] = None,
) -> None:
    """Write a configuration that works, and make a ledger with an account, a project and their keys.

    Shows both keys, this once, and the commands to type next. Nothing that is there is written over: exits
    with 2 then.
    """
    try:
        choice = _choice(provider, model, economy_model, base_url, key_env)
        text, settings = _drafted(config, choice)
        ledger = _free(config, settings.server.store)
        _write(config, text)
    except Misplaced as error:
        end(str(error), 2)
    secrets = _make(config, ledger)
    typer.echo(_next(config, ledger, settings, secrets))


def _choice(
    provider: str, model: str | None, economy_model: str | None, base_url: str | None, key_env: str | None
) -> Choice:
    from flatfee.server.providers.rows import COMPATIBLE, ROWS

    if provider == SIMULATED.kind:
        if any((model, economy_model, base_url, key_env)):
            raise Misplaced("simulated answers have no model, address or key to choose; leave the other options out.")
        return SIMULATED
    name = provider
    if provider.startswith(("http://", "https://")):
        if base_url is not None:
            raise Misplaced("--provider is an address already; leave --base-url out.")
        name, provider, base_url = "upstream", COMPATIBLE, provider
    usual = OPENAI if provider == OPENAI.kind and base_url is None else None
    premium = model or (usual.premium if usual else None)
    if premium is None and provider in ROWS:
        raise Misplaced(f"Say which model to ask {name} for: --model NAME")
    premium = premium or "?"  # of a kind that there is not, which is told first
    economy = economy_model or model or (usual.economy if usual else premium)
    return Choice(
        name=name,
        kind=provider,
        base_url=base_url,
        key_env=key_env,
        premium=premium,
        economy=economy,
        slow=_is_here(base_url or (ROWS[provider].base_url if provider in ROWS else None)),
    )


def _is_here(url: str | None) -> bool:
    """Tell whether a provider is on this machine; one whose address cannot be one is not, and is told later."""
    from flatfee.server.doctor.network import is_loopback
    from flatfee.server.settings import is_http_address

    return url is not None and is_http_address(url) and is_loopback(urlsplit(url).hostname or "")


def _drafted(config: Path, choice: Choice) -> tuple[str, Settings]:
    """Return the file's text, and what a gateway here will understand by it.

    Raises:
        Misplaced: it would not be understood.
    """
    from flatfee.server.configuration import SettingsError, parse_values, with_secrets

    # A relative path is that of the working directory, so only beside a file that is found there.
    here = config.parent.resolve() == Path.cwd()
    store = f"sqlite:///{_LEDGER if here else config.parent.resolve() / _LEDGER}"
    template = resources.files("flatfee.cli.init").joinpath("flatfee.toml").read_text(encoding="utf-8")
    text = draft(template, choice, store)
    try:
        settings = parse_values(text, str(config), os.environ)
        with_secrets(settings, str(config), os.environ | dict.fromkeys(_to_export(settings), "to-come"))
    except SettingsError as error:
        raise Misplaced(str(error)) from error
    return text, settings


def _to_export(settings: Settings) -> list[str]:
    """Return the variables that must hold a provider's key, and do not."""
    return [name for each in settings.providers if (name := each.needed_env) and not os.environ.get(name)]


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


def _next(config: Path, ledger: Path, settings: Settings, secrets: dict[str, str]) -> str:
    start = f"{command()} serve" if config == DEFAULT_FILE else f"{command()} serve --config {shlex.quote(str(config))}"
    for variable in _to_export(settings):
        start = f"export {variable}=…  # the provider's key\n  {start}"
    admin_url = f"http://{settings.server.host}:{settings.server.port}"
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
