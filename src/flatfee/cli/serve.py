"""``flatfee serve``: run the gateway.

The server is imported when it is to run: the other commands start faster without it.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from flatfee.cli import hangups
from flatfee.cli.invoked import command

if TYPE_CHECKING:
    from flatfee.server.reload.source import Source
    from flatfee.server.settings import ServerSettings, Settings

log = logging.getLogger("flatfee.server")

DEMO_KEY_ENV: Final = "FLATFEE_DEMO_KEY"
DEFAULT_FILE: Final = Path("flatfee.toml")
MAX_WORKERS: Final = 64

_TRY_IT: Final = """\
Demo configuration: simulated providers, nothing kept. Its one key is shown once. In another terminal:

  export FLATFEE_BASE_URL={url} FLATFEE_API_KEY={key}

and then

  curl "$FLATFEE_BASE_URL/chat/completions" \\
    -H "Authorization: Bearer $FLATFEE_API_KEY" -H "Content-Type: application/json" \\
    -d '{{"model": "auto", "messages": [{{"role": "user", "content": "Hello"}}]}}'
  {command} chat "Hello"
"""

_OWN_LEDGERS: Final = """\
{where}: 'memory://' would be a ledger for each of {count} workers, and fair-use would be sold {count} times. \
Name a file, such as FLATFEE_STORE=sqlite:///flatfee.db, or leave --workers out."""

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
    workers: Annotated[
        int, typer.Option(min=1, max=MAX_WORKERS, help="Serve with so many processes, on one ledger's file.")
    ] = 1,
    test: Annotated[
        bool,
        typer.Option("--test", help="Be a test double: scripted by POST /_test, in memory, on a free port by default."),
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="With --test: refuse what no rule matches.")] = False,
    end_with_stdin: Annotated[
        bool, typer.Option("--end-with-stdin", help="With --test: end when standard input does.")
    ] = False,
    record: Annotated[
        Path | None, typer.Option(help="With --test and --config: write what the real providers answer into a folder.")
    ] = None,
    replay: Annotated[Path | None, typer.Option(help="With --test: answer as recorded in a folder.")] = None,
) -> None:
    """Run the gateway. Without a file: a demo with simulated providers and one key, printed once."""
    path = config or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
    if test or path is None:
        hangups.let_go()
    if test:
        options = {"host": host, "port": port, "config": config, "strict": strict or None}
        options |= {"record": record, "replay": replay}
        _serve_test({name: value for name, value in options.items() if value is not None}, workers, end_with_stdin)
        return
    if strict or end_with_stdin or record or replay:
        _end("--strict, --end-with-stdin, --record and --replay go with --test only.")
    from flatfee.server.keys import KeyKind, new_key
    from flatfee.server.logs import configure_logging

    configure_logging()
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    source = _source(path, given) if path else None
    key = None if path else new_key(KeyKind.PROJECT)
    settings = _settings(source, key or "", given)
    if workers > 1 and settings.server.store == "memory://":
        _end(_OWN_LEDGERS.format(where=_store_key(path), count=workers))

    def ready(bound_host: str, bound_port: int) -> None:
        url = f"http://{f'[{bound_host}]' if ':' in bound_host else bound_host}:{bound_port}/v1"
        log.info("server.ready", extra={"url": url, "store": settings.server.store})
        typer.echo(f"flatfee is ready on {url}")
        if key is not None:
            typer.echo(_TRY_IT.format(url=url, key=key, command=command()))

    _run(settings, source, workers, _store_key(path), ready)
    log.info("server.stopped")


def _serve_test(options: dict[str, object], workers: int, end_with_stdin: bool) -> None:
    """Be a test double until told to end, or end the command with why it cannot."""
    from flatfee.server.configuration import SettingsError
    from flatfee.server.logs import configure_logging
    from flatfee.testing.control.process import serve_until_told
    from flatfee.testing.tapes.tape import TapeError

    if workers != 1:
        _end("--test is one process, whose state is in memory; leave --workers out.")
    configure_logging(logging.WARNING)  # what it is asked is in its journal
    try:
        serve_until_told(options, typer.echo, end_with_stdin=end_with_stdin)
    except (ValueError, OSError, SettingsError, TapeError) as error:
        _end(str(error), error)


def _end(message: str, cause: BaseException | None = None) -> NoReturn:
    """End the command with what is wrong."""
    typer.echo(message, err=True)
    raise typer.Exit(2) from cause


def _run(
    settings: Settings, source: Source | None, workers: int, store_key: str, ready: Callable[[str, int], None]
) -> None:
    """Serve until a signal, or end the command with why it cannot."""
    from flatfee.server.app import create_app
    from flatfee.server.run import run
    from flatfee.server.store.base import StoreDown
    from flatfee.server.workers import NotStarted, run_workers

    try:
        if workers == 1:
            run(create_app(settings, source=source), on_ready=ready)
        else:
            run_workers(settings, workers, source=source, on_ready=ready)
    except StoreDown as error:
        cure = "Make its folder if there is none, and check that this user may write there; or name another file."
        _end(f"{store_key}: {error}. {cure}", error)
    except SystemExit as error:
        typer.echo(_not_started(settings.server, error.__context__), err=True)
        raise typer.Exit(1) from error
    except NotStarted as error:
        typer.echo(_not_started(settings.server, error.__cause__, str(error)), err=True)
        raise typer.Exit(1) from error


def _source(path: Path, given: Mapping[str, object]) -> Source:
    """Return what is read now, and again when ``SIGHUP`` says so, which ends nothing then."""
    from flatfee.server.reload.source import Source

    return Source(path=path, env=os.environ, given=given)


def _settings(source: Source | None, key: str, given: Mapping[str, object]) -> Settings:
    """Return the settings, or end the command with what is wrong. ``given`` is what the command line overrides."""
    from flatfee.server.configuration import SettingsError

    try:
        if source is not None:
            return source.read()
        settings = demo_settings(key)
    except SettingsError as error:
        _end(str(error), error)
    return settings.model_copy(update={"server": settings.server.model_copy(update=given)})


def _store_key(path: Path | None) -> str:
    """Name where the store was chosen."""
    if "FLATFEE_STORE" in os.environ:
        return "FLATFEE_STORE"
    return f"{path or 'the demo configuration'}: [server] store"


def _not_started(server: ServerSettings, cause: BaseException | None, told: str = "") -> str:
    """Say why the gateway does not listen, as far as the system told, and what to do."""
    if isinstance(cause, socket.gaierror):
        cure = f"The host is not known: {_OTHER_HOST}"
    else:
        cure = _CURES.get(getattr(cause, "errno", None), told or "The log says why.")
    return f"The gateway did not start on {server.host}:{server.port}. {cure}"
