"""``flatfee serve``: run the gateway.

The server is imported when it is to run: the other commands start faster without it.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from flatfee.cli.invoked import command

if TYPE_CHECKING:
    from flatfee.server.app import App
    from flatfee.server.settings import ServerSettings, Settings

log = logging.getLogger("flatfee.server")

DEMO_KEY_ENV: Final = "FLATFEE_DEMO_KEY"
DEFAULT_FILE: Final = Path("flatfee.toml")

_TRY_IT: Final = """\
Demo configuration: simulated providers, nothing kept. Its one key is shown once. In another terminal:

  export FLATFEE_BASE_URL={url} FLATFEE_API_KEY={key}

and then

  curl "$FLATFEE_BASE_URL/chat/completions" \\
    -H "Authorization: Bearer $FLATFEE_API_KEY" -H "Content-Type: application/json" \\
    -d '{{"model": "auto", "messages": [{{"role": "user", "content": "Hello"}}]}}'
  {command} chat "Hello"
"""

_OTHER_HOST: Final = "--host takes an address of this machine, such as 127.0.0.1."
_OTHER_PORT: Final = "--port takes another port; 0 takes a free one."
_CURES: Final[Mapping[int | None, str]] = {
    errno.EADDRINUSE: f"The port is taken: {_OTHER_PORT}",
    errno.EADDRNOTAVAIL: f"This machine has no such address: {_OTHER_HOST}",
    errno.EACCES: "This user may not listen there: --port takes a port above 1023.",
    errno.EPERM: "This user may not listen there: --port takes a port above 1023.",
}
"""What to do about an address that cannot be listened on."""


def demo_settings(key: str) -> Settings:
    """Return the demo configuration, with ``key`` as its one key."""
    from flatfee.server.configuration import parse_settings

    text = resources.files("flatfee.server").joinpath("demo.toml").read_text(encoding="utf-8")
    overrides = {name: value for name, value in os.environ.items() if name.startswith("FLATFEE_")}
    return parse_settings(text, source="the demo configuration", env={**overrides, DEMO_KEY_ENV: key})


def serve(
    config: Annotated[
        Path | None, typer.Option(help="The configuration file. Default: ./flatfee.toml, if there is one.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Listen on this address instead of the file's.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Listen on this port instead of the file's; 0: a free one.")
    ] = None,
) -> None:
    """Run the gateway. Without a file: a demo with simulated providers and one key, printed once."""
    from flatfee.server.keys import KeyKind, new_key
    from flatfee.server.logs import configure_logging
    from flatfee.server.run import run

    configure_logging()
    # What uvicorn says about its own start is named "error"; the events below say the same in our words.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    path = config or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
    key = None if path else new_key(KeyKind.PROJECT)
    app = _build(path, key or "", {"host": host, "port": port})

    def ready(bound_host: str, bound_port: int) -> None:
        url = f"http://{f'[{bound_host}]' if ':' in bound_host else bound_host}:{bound_port}/v1"
        log.info("server.ready", extra={"url": url, "store": app.gateway.settings.server.store})
        typer.echo(f"flatfee is ready on {url}")
        if key is not None:
            typer.echo(_TRY_IT.format(url=url, key=key, command=command()))

    try:
        run(app, on_ready=ready)
    except SystemExit as error:
        typer.echo(_not_started(app.gateway.settings.server, error.__context__), err=True)
        raise typer.Exit(1) from error
    log.info("server.stopped")


def _build(path: Path | None, key: str, given: Mapping[str, object]) -> App:
    """Return the app, or end the command with what is wrong. ``given`` is what the command line overrides."""
    from flatfee.server.app import create_app
    from flatfee.server.configuration import SettingsError, load_settings
    from flatfee.server.store.base import StoreDown

    try:
        settings = load_settings(path, os.environ) if path else demo_settings(key)
        overrides = {name: value for name, value in given.items() if value is not None}
        return create_app(settings.model_copy(update={"server": settings.server.model_copy(update=overrides)}))
    except SettingsError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    except StoreDown as error:
        where = "FLATFEE_STORE" if "FLATFEE_STORE" in os.environ else f"{path}: [server] store"
        cure = "Make its folder if there is none, and check that this user may write there; or name another file."
        typer.echo(f"{where}: {error}. {cure}", err=True)
        raise typer.Exit(2) from error


def _not_started(server: ServerSettings, cause: BaseException | None) -> str:
    """Say why the gateway does not listen, as far as the system told, and what to do."""
    if isinstance(cause, socket.gaierror):
        cure = f"The host is not known: {_OTHER_HOST}"
    else:
        cure = _CURES.get(getattr(cause, "errno", None), "The log says why.")
    return f"The gateway did not start on {server.host}:{server.port}. {cure}"
