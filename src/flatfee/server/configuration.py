"""From ``flatfee.toml`` and the environment to ``Settings``, with errors that name the cure.

All values that are wrong are reported at once, then all names and secrets, one line each: file, key,
value, what to do. The only place that reads the environment; secrets are kept in ``SecretStr``.
"""

from __future__ import annotations

import difflib
import logging
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar, get_args

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from flatfee.server import settings as tables
from flatfee.server.keys import KeyKind, well_formed
from flatfee.server.policy.mistakes import doubts, mistakes
from flatfee.server.settings import Settings
from flatfee.server.windows import longest
from flatfee.wire import Model

log = logging.getLogger("flatfee.server")

ENVIRONMENT: Final[Mapping[str, str]] = {
    "FLATFEE_HOST": "host",
    "FLATFEE_PORT": "port",
    "FLATFEE_STORE": "store",
    "FLATFEE_DURABILITY": "durability",
}
"""Environment variable → key of ``[server]`` that it overrides."""

_NOTHING: Final[Mapping[str, str]] = {}
_Table = TypeVar("_Table", bound=BaseModel)


class SettingsError(ValueError):
    """The configuration cannot be used. ``problems`` holds one line for each mistake."""

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{source}: {problem}" for problem in problems))


def read_settings(path: Path, env: Mapping[str, str]) -> Settings:
    """Read ``path`` without any secret: for what looks after a gateway, and serves nothing itself.

    Raises:
        SettingsError: the file cannot be read, is not TOML, or says something impossible.
    """
    settings = parse_values(read_text(path), str(path), env)
    if problems := list(_name_problems(settings)):
        raise SettingsError(str(path), problems)
    return settings


def parse_settings(text: str, *, source: str, env: Mapping[str, str]) -> Settings:
    """Make settings from the text of a configuration file; ``source`` is named in errors.

    Raises:
        SettingsError: the text is not TOML, or says something impossible.
    """
    return with_secrets(parse_values(text, source, env), source, env)


def with_secrets(settings: Settings, source: str, env: Mapping[str, str]) -> Settings:
    """Bring the secrets from the environment to settings whose values were read; ``source`` is named in errors.

    Raises:
        SettingsError: a name is unknown, or a secret is missing or impossible.
    """
    for provider in settings.providers:
        if provider.api_key:
            log.warning("settings.api_key_in_file", extra={"provider": provider.name, "cure": "use api_key_env"})
    problems = [*_name_problems(settings), *secret_problems(settings, env)]
    if problems:
        raise SettingsError(source, problems)
    for doubt in doubts(settings):
        log.warning("settings.doubtful", extra={"found": doubt.found, "cure": doubt.cure})
    return _with_secrets(settings, env)


def read_text(path: Path) -> str:
    """Return the text of a configuration file.

    Raises:
        SettingsError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(str(path), [f"cannot be read: {error}"]) from error


def parse_toml(text: str, source: str) -> dict[str, Any]:
    """Return what the text of a file says; ``source`` is named in errors.

    Raises:
        SettingsError: it is not TOML.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(source, [f"is not TOML: {error}"]) from error
    except RecursionError as error:
        raise SettingsError(source, ["is nested too deeply; take brackets away"]) from error


def parse_values(text: str, source: str, env: Mapping[str, str]) -> Settings:
    """Read the values of a configuration file's text; its names and secrets are looked at by ``with_secrets``.

    Raises:
        SettingsError: the text is not TOML, or a value is impossible.
    """
    data = parse_toml(text, source)
    overrides = {key: name for name, key in ENVIRONMENT.items() if name in env}
    if overrides and isinstance(data.get("server", {}), dict):
        data["server"] = data.get("server", {}) | {key: env[name] for key, name in overrides.items()}
    return validated(Settings, data, source, overrides)


def validated(
    table: type[_Table], data: Mapping[str, object], source: str, overrides: Mapping[str, str] = _NOTHING
) -> _Table:
    """Return a table of the file, or all of it, from its values; ``source`` is named in errors.

    ``overrides`` are keys of ``[server]`` that came from environment variables.

    Raises:
        SettingsError: a value is impossible.
    """
    try:
        return table.model_validate(data)
    except ValidationError as error:
        raise SettingsError(source, _problems(table, error.errors(), overrides)) from error


def _problems(table: type[BaseModel], found: Sequence[ErrorDetails], overrides: Mapping[str, str]) -> list[str]:
    """Word every finding, but for lists that are "too short" only because of what is wrong in them."""
    spoilt = {details["loc"][:depth] for details in found for depth in range(1, len(details["loc"]))}
    return [
        _problem(table, details, overrides)
        for details in found
        if details["type"] != "too_short" or details["loc"] not in spoilt
    ]


def _problem(table: type[BaseModel], details: ErrorDetails, overrides: Mapping[str, str]) -> str:
    """Turn one of pydantic's findings into a line that names key, value and cure."""
    where = _key(details["loc"])
    if details["loc"][:1] == ("server",) and details["loc"][-1] in overrides:
        where += f" (from {overrides[str(details['loc'][-1])]})"
    given, context = _shown(details), details.get("ctx", {})
    match details["type"]:
        case "extra_forbidden":
            return f"{where}: unknown key{_suggest(table, details['loc'])}"
        case "missing":
            return f"{where}: is missing; add it"
        case "enum" | "literal_error":
            return f"{where}: unknown value {given}; use {context['expected']}"
        case "string_pattern_mismatch":
            return f"{where}: {given} is not a name; use letters, digits and . _ -, at most 64, a letter or digit first"
        case "value_error":
            return f"{where}: {context['error']}" if where else str(context["error"])
        case "too_short" | "too_long":
            most = context.get("max_length")
            return f"{where}: {f'has more than {most} entries; leave some out' if most else 'needs at least one entry'}"
        case "tuple_type":
            return f"{where}: {given} is not possible; write a list"
        case "model_type" | "dict_type":
            return f"{where}: {given} is not possible; write a table"
        case _:
            return f"{where}: {given} is not possible: {details['msg'][:1].lower()}{details['msg'][1:]}"


def _key(location: Iterable[str | int]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _suggest(table: type[BaseModel], location: Sequence[str | int]) -> str:
    for part in location[:-1]:
        field = table.model_fields.get(str(part))
        table = (_table_in(field.annotation) if field is not None else None) or table
    known = list(table.model_fields)
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; known keys: {', '.join(known)}"


def _table_in(annotation: object) -> type[BaseModel] | None:
    """Return the table that a key holds, be it alone or in a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _table_in(part)) is not None), None)


def _shown(details: ErrorDetails) -> str:
    """Show a wrong value, but nothing that may be or hold a secret."""
    value = details["input"]
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    if details["loc"][-1:] == ("api_key",):
        return "the value"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _name_problems(settings: Settings) -> Iterator[str]:
    for label in ("providers", "routes", "plans", "accounts"):
        yield from _repeated(label, [entry.name for entry in getattr(settings, label)])
    for index, account in enumerate(settings.accounts):
        yield from _repeated(f"accounts[{index}].projects", [project.name for project in account.projects])
        for number, project in enumerate(account.projects):
            keys = [key.name for key in project.keys]
            yield from _repeated(f"accounts[{index}].projects[{number}].keys", keys)
        if settings.plan(account.plan) is None:
            yield _unknown(f"accounts[{index}].plan", account.plan, [plan.name for plan in settings.plans])
    for index, route in enumerate(settings.routes):
        if settings.provider(route.provider) is None:
            yield _unknown(f"routes[{index}].provider", route.provider, [entry.name for entry in settings.providers])
        elif problem := _prefill_problem(route, settings):
            yield f"routes[{index}].prefill: {problem}"
    yield from _repeated("policy.rules", [rule.name for rule in settings.policy.rules])
    yield from _retention_problems(settings)
    for alias in settings.aliases:
        if alias in tuple(Model):
            yield f"aliases.{alias}: is a model of every gateway and cannot be an alias; choose another name"
    yield from mistakes(settings)


def _prefill_problem(route: tables.RouteSettings, settings: Settings) -> str | None:
    """Say why a route cannot go on from a begun answer though it is to, if its service is known not to."""
    provider = settings.provider(route.provider)
    if provider is None or not route.prefill:
        return None
    if provider.speaks.prefill == "refused":
        return f"{provider.kind} does not go on from a begun answer; leave it out"
    needed = provider.row.prefill_url
    if needed is not None and provider.base_url != needed and provider.row.is_at(provider.base_url):
        return f"{provider.kind} goes on from a begun answer only at base_url = {needed!r}; write that, or leave it out"
    return None


def _retention_problems(settings: Settings) -> Iterator[str]:
    """Receipts are what balances follow from: those of a window that still runs must be there."""
    days = settings.receipts.retention_days
    for plan in settings.plans:
        needed = -(-longest(plan.window) // 86_400) + 1
        if days is not None and days < needed:
            yield (
                f"receipts.retention_days: {days} is less than a window of plan {plan.name!r} and a day: "
                f"use {needed} or more"
            )


def _repeated(label: str, names: Sequence[str | None]) -> Iterator[str]:
    for index, name in enumerate(names):
        if name is not None and name in names[:index]:
            yield f"{label}[{index}].name: {name!r} is taken by {label}[{names.index(name)}]; choose another name"


def _unknown(where: str, name: str, known: Sequence[str]) -> str:
    return f"{where}: there is no {name!r}; use one of: {', '.join(known)}"


def _keys(settings: Settings) -> Iterator[tuple[str, tables.KeySettings]]:
    for a, account in enumerate(settings.accounts):
        for p, project in enumerate(account.projects):
            for k, key in enumerate(project.keys):
                yield f"accounts[{a}].projects[{p}].keys[{k}]", key


_UNSENDABLE: Final = (
    "the key in {where} has white space or a character that no header may hold; set it without, also without a "
    "line's end"
)


def _variable(name: str) -> str:
    """Name an environment variable, unless it looks as if the secret itself had been written there."""
    return f"environment variable {name!r}" if name == name.upper() else "the environment variable it names"


def secret_problems(settings: Settings, env: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for every secret that is named and cannot be had, or had twice."""
    for index, provider in enumerate(settings.providers):
        if provider.api_key_env and provider.api_key:
            yield f"providers[{index}]: has both api_key and api_key_env; keep api_key_env"
    yield from provider_key_problems(settings, env)
    yield from _key_problems(settings, env)


def provider_key_problems(settings: Settings, env: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for every key of a provider that is missing, or cannot be sent."""
    for index, provider in enumerate(settings.providers):
        name, key = provider.key_env, with_key(provider, env).api_key
        if provider.api_key_env and not env.get(provider.api_key_env):
            yield f"providers[{index}].api_key_env: {_variable(provider.api_key_env)} is not set; export it"
        elif key is not None and not is_sendable(key.get_secret_value()):
            yield f"providers[{index}]: {_UNSENDABLE.format(where=_variable(name) if name else 'api_key')}"
        elif key is None and provider.row.needs_key and name is not None:
            yield (
                f"providers[{index}]: {provider.kind} needs a key, and environment variable {name!r} is not set; "
                "export it, or name another variable: api_key_env"
            )


def is_sendable(key: str) -> bool:
    """Tell whether a key can stand in a header as it is: many that come from a file end with a line's end."""
    return key.isascii() and key.isprintable() and " " not in key


def with_key(provider: tables.ProviderSettings, env: Mapping[str, str]) -> tables.ProviderSettings:
    """Return a provider with its key, if the environment holds it."""
    secret = env.get(provider.key_env) if provider.key_env else None
    return provider.model_copy(update={"api_key": SecretStr(secret)}) if secret else provider


def _key_problems(settings: Settings, env: Mapping[str, str]) -> Iterator[str]:
    owners: dict[str, str] = {}
    admin_key = env.get(settings.server.admin_key_env)
    if admin_key:
        owners[admin_key] = "server.admin_key_env"
        if not well_formed(admin_key):
            yield f"server.admin_key_env: {_no_key(settings.server.admin_key_env)}"
    for where, key in _keys(settings):
        secret = env.get(key.key_env)
        if not secret:
            yield f"{where}.key_env: {_variable(key.key_env)} is not set; export it"
        elif not well_formed(secret):
            yield f"{where}.key_env: {_no_key(key.key_env)}"
        elif other := next((kind for kind in (KeyKind.TEAM, KeyKind.ADMIN) if secret.startswith(kind.prefix)), None):
            yield (
                f"{where}.key_env: the secret in {_variable(key.key_env)} starts with {other.prefix!r}, "
                "and a project's key is wanted; use another secret"
            )
        elif secret in owners:
            yield f"{where}.key_env: the secret in {key.key_env!r} is that of {owners[secret]}; each key needs its own"
        else:
            owners[secret] = where


def _no_key(variable: str) -> str:
    return (
        f"the secret in {_variable(variable)} cannot be a key; "
        "use 32 ASCII characters or more that do not start with 'ff_'"
    )


def _with_secrets(settings: Settings, env: Mapping[str, str]) -> Settings:
    def project(entry: tables.ProjectSettings) -> tables.ProjectSettings:
        keys = tuple(key.with_secret(env[key.key_env]) for key in entry.keys)
        return entry.model_copy(update={"keys": keys})

    accounts = tuple(
        account.model_copy(update={"projects": tuple(project(entry) for entry in account.projects)})
        for account in settings.accounts
    )
    admin_key = env.get(settings.server.admin_key_env)
    return settings.model_copy(
        update={
            "server": settings.server.with_admin_key(admin_key) if admin_key else settings.server,
            "providers": tuple(with_key(entry, env) for entry in settings.providers),
            "accounts": accounts,
        }
    )
