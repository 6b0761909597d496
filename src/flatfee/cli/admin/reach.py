"""Which gateway a command speaks to, by options and environment, and how its failures are told.

Exit codes: 0 done, 1 the gateway refused or cannot be reached, 2 wrong arguments or configuration.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, NoReturn
from urllib.parse import urlsplit

import typer

from flatfee.cli.admin.client import Admin, NotAName, Refused, Unreachable
from flatfee.cli.admin.values import NotAValue
from flatfee.cli.asking import print_json
from flatfee.cli.invoked import command
from flatfee.cli.serve import DEFAULT_FILE
from flatfee.cli.show import one_line

URL_ENV: Final = "FLATFEE_ADMIN_URL"
KEY_ENV: Final = "FLATFEE_ADMIN_KEY"

UrlOption = Annotated[
    str | None,
    typer.Option("--url", help=f"A running gateway, such as http://127.0.0.1:8787. Default: {URL_ENV}, else the file."),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="Without a gateway: whose ledger to work on. Default: ./flatfee.toml."),
]
AddressOption = Annotated[
    Path | None,
    typer.Option(
        "--config", help="Without a URL: ask where this file has the gateway listen. Default: ./flatfee.toml."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write the admin API's answer as JSON.")]


class Misplaced(Exception):
    """Options or environment do not lead to a gateway; the message says what to do."""


@contextmanager
def admin(url: str | None, config: Path | None, *, as_json: bool) -> Generator[Admin]:
    """Yield the admin API. A failure inside is told on standard error, and ends the command.

    With ``as_json`` standard output gets the gateway's error as JSON, too.
    """
    with _failures_told(as_json=as_json), _reach(url, config) as reached:
        yield reached


@contextmanager
def running(url: str | None, config: Path | None, *, as_json: bool) -> Generator[Admin]:
    """Yield the admin API of a gateway that runs, for what only its memory knows.

    Without a URL it is the one that listens where the file says. Failures are told as in ``admin``.
    """
    with _failures_told(as_json=as_json):
        named = _named(url, config)
        file = config or DEFAULT_FILE
        try:
            with _remote(named or _listens_at(file)) as reached:
                yield reached
        except Unreachable as error:
            if named is not None:
                raise
            cure = f"{file} has it listen there: start it with '{command()} serve', or name where it runs: --url"
            message = f"{error} {cure}"
            raise Unreachable(message) from error


@contextmanager
def _failures_told(*, as_json: bool) -> Generator[None]:
    try:
        yield
    except (Misplaced, NotAName, NotAValue) as error:
        end(str(error), 2)
    except Unreachable as error:
        end(str(error), 1)
    except Refused as error:
        if as_json:
            print_json(error.envelope)
        end(f"{error.code}: {error}{_cure(error.code)}", 1)


def end(message: str, code: int) -> NoReturn:
    """Tell why a command ends, on one line of standard error."""
    typer.echo(one_line(message), err=True)
    raise typer.Exit(code)


def _cure(code: str) -> str:
    return f" The key is read from {KEY_ENV}." if code in {"invalid_api_key", "permission_denied"} else ""


def _reach(url: str | None, config: Path | None) -> Admin:
    named = _named(url, config)
    return _remote(named) if named is not None else _local(config or DEFAULT_FILE)


def _named(url: str | None, config: Path | None) -> str | None:
    """Return the gateway that was named, by option or environment; ``None`` leaves it to the file."""
    if url is not None and config is not None:
        raise Misplaced("--url names a running gateway, --config a file: give one of them.")
    if url is None and config is None:
        return os.environ.get(URL_ENV) or None
    return url


def _listens_at(config: Path) -> str:
    """Return the URL of the gateway that serves a file, as seen from this machine."""
    from flatfee.server.configuration import SettingsError, read_settings

    _must_exist(config)
    try:
        server = read_settings(config, os.environ).server
    except (SettingsError, OSError) as error:
        raise Misplaced(str(error)) from error
    if server.port == 0:
        message = f"{config} leaves the port to the system; name the running gateway as 'serve' told it: --url"
        raise Misplaced(message)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(server.host, server.host)  # noqa: S104 - nothing listens here
    return f"http://{f'[{host}]' if ':' in host else host}:{server.port}"


def _must_exist(config: Path) -> None:
    if not config.exists():
        hint = f"Make one with '{command()} init', or name a running gateway: --url"
        message = f"There is no {config}. {hint}"
        raise Misplaced(message)


def _remote(url: str) -> Admin:
    """Return a running gateway's API."""
    from flatfee.server.doctor.network import is_loopback
    from flatfee.server.settings import is_http_address

    if any(sign in url for sign in "?#@") or not is_http_address(url):
        raise Misplaced("The gateway's URL must be http or https without user and query: --url http://127.0.0.1:8787")
    parts = urlsplit(url)
    key = os.environ.get(KEY_ENV, "")
    if not key:
        message = f"Set {KEY_ENV} to an admin key of that gateway; it is made with '{command()} keys create --admin'."
        raise Misplaced(message)
    if not (key.isascii() and key.isprintable()):
        message = f"What {KEY_ENV} holds cannot be a key: use printable ASCII characters only."
        raise Misplaced(message)
    host = parts.hostname or ""
    here = is_loopback(host)
    if parts.scheme == "http" and not here:
        typer.echo(f"The admin key travels to {one_line(host)} unencrypted; use https.", err=True)
    return Admin.at(f"{parts.scheme}://{parts.netloc}", key, proxied=not here)


def _local(config: Path) -> Admin:
    """Return the API of a gateway in this process that serves nobody. Who may write its ledger may administer it.

    The ledger may be in use by a gateway that runs: SQLite lets one write at a time. Accounts of the file are
    not made here, and no lease is swept: that is for a gateway that serves.
    """
    from flatfee.server.app import create_app
    from flatfee.server.configuration import SettingsError, read_settings
    from flatfee.server.doctor.ledger import ledger_path
    from flatfee.server.store.base import StoreDown

    _must_exist(config)
    try:
        settings = read_settings(config, os.environ)
        ledger = ledger_path(settings.server.store)
        if ledger is None:
            message = f"{config} keeps its ledger in the gateway's memory; name the running gateway: --url"
            raise Misplaced(message)
        there = ledger.exists()
        app = create_app(settings, providers={}, operator=f"local:{_user()}")
    except (SettingsError, StoreDown, OSError) as error:
        raise Misplaced(str(error)) from error
    if not there:
        typer.echo(one_line(f"There was no ledger {ledger.absolute()}: it is made."), err=True)
    return Admin.inside(app, app.gateway.store.close)


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name  # not what the environment says, which anybody can set
    except KeyError:  # a user without a name, as in some containers
        return str(os.getuid())
