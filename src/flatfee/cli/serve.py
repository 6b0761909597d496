"""``flatfee serve``: run the gateway.

The server is imported when it is to run: the other commands start faster without it.
"""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from flatfee.server.settings import Settings

DEMO_KEY_ENV: Final = "FLATFEE_DEMO_KEY"
DEFAULT_FILE: Final = Path("flatfee.toml")

_TRY_IT: Final = """\
Try it:
  curl {url}/chat/completions \\
    -H "Authorization: Bearer {key}" -H "Content-Type: application/json" \\
    -d '{{"model": "auto", "messages": [{{"role": "user", "content": "Hello"}}]}}'
"""


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
    from flatfee.server.app import create_app
    from flatfee.server.configuration import SettingsError, load_settings
    from flatfee.server.keys import KeyKind, new_key
    from flatfee.server.logs import configure_logging
    from flatfee.server.run import run
    from flatfee.server.store.base import StoreDown

    configure_logging()
    path = config or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
    key = None if path else new_key(KeyKind.PROJECT)
    try:
        settings = load_settings(path, os.environ) if path else demo_settings(key or "")
        server = settings.server.model_copy(
            update={name: value for name, value in (("host", host), ("port", port)) if value is not None}
        )
        app = create_app(settings.model_copy(update={"server": server}))
    except (SettingsError, StoreDown) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error

    def ready(bound_host: str, bound_port: int) -> None:
        url = f"http://{f'[{bound_host}]' if ':' in bound_host else bound_host}:{bound_port}/v1"
        typer.echo(f"flatfee is ready on {url}")
        if key is not None:
            typer.echo(f"Demo configuration: simulated providers, nothing kept. Key, shown once:\n  {key}\n")
            typer.echo(_TRY_IT.format(url=url, key=key))

    try:
        run(app, on_ready=ready)
    except SystemExit as error:
        where = f"{server.host}:{server.port}"
        typer.echo(f"The gateway did not start on {where}. The log says why; --port takes another port.", err=True)
        raise typer.Exit(1) from error
