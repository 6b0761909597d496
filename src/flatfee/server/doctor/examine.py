"""The whole examination, in order: from the configuration to what it names to the machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from flatfee.server.configuration import SettingsError, read_settings, secret_problems
from flatfee.server.doctor.finding import Finding, fail, ok, warn
from flatfee.server.doctor.ledger import examine_ledger, ledger_path
from flatfee.server.doctor.machine import Machine, check_clock, check_open_files, check_python, check_sqlite
from flatfee.server.doctor.network import examine_provider
from flatfee.server.policy.mistakes import doubts
from flatfee.server.settings import Settings

_CONFIGURATION: Final = "configuration"


class Unreadable(Exception):
    """The configuration cannot be read, so that nothing it names can be looked at. ``findings`` say why."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        super().__init__("the configuration cannot be read")
        self.findings = findings


def read(path: Path, env: Mapping[str, str]) -> Settings:
    """Read the configuration without its secrets.

    Raises:
        Unreadable: it is not there, not TOML, or says something impossible.
    """
    try:
        return read_settings(path, env)
    except SettingsError as error:
        cure = f"Change {path} as this says." if path.exists() else "'flatfee init' makes one; --config names another."
        raise Unreadable(tuple(fail(_CONFIGURATION, f"{path}: {each}", cure) for each in error.problems)) from error


def examine(path: Path, settings: Settings, env: Mapping[str, str], machine: Machine) -> Iterator[Finding]:
    """Look at everything, and yield each finding when it is known. A provider may take seconds."""
    yield from check_configuration(path, settings, env)
    ledger = examine_ledger(settings.server.store, machine.now)
    yield from ledger.findings
    yield from check_clock(machine, ledger.newest_receipt)
    for provider in settings.providers:
        yield from examine_provider(provider)
    if ledger_path(settings.server.store) is not None:
        yield check_sqlite(machine.sqlite)
    yield check_python(machine.python)
    yield check_open_files(machine.open_files, settings.server.max_requests)


def check_configuration(path: Path, settings: Settings, env: Mapping[str, str]) -> Iterator[Finding]:
    """Look for secrets that are missing, for those in a place where they should not be, and for doubtful rules."""
    problems = list(secret_problems(settings, env))
    for problem in problems:
        cure = "Set it where the gateway is started; the doctor sees only its own environment."
        yield fail(_CONFIGURATION, f"{path}: {problem}", cure)
    for index, provider in enumerate(settings.providers):
        if provider.api_key:
            cure = f"Put the key into the environment, and the variable's name into api_key_env: {path} gets copied."
            yield warn(_CONFIGURATION, f"providers[{index}].api_key: the key stands in the file", cure)
    yield from (warn(_CONFIGURATION, doubt.found, doubt.cure) for doubt in doubts(settings))
    if not problems:
        shown = f"routes: {len(settings.routes)}, plans: {len(settings.plans)}"
        yield ok(_CONFIGURATION, f"{path} is understood ({shown})")
