"""What another configuration changes, by name; and what it cannot change while the gateway runs. Pure.

Values are told only where they can hold no secret: a provider's table may, and so may a file's account.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from pydantic import BaseModel

from flatfee.server.settings import Settings
from flatfee.wire import ErrorCode

AT_START: Final = ("host", "port", "store", "durability")
"""Keys of ``[server]`` that are taken once, when the gateway starts."""

_LINES: Final = 20
_LINE: Final = 500

_LISTS: Final = ("providers", "routes", "plans", "accounts", "rules", "aliases")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Names of entries that came, went, or say something else now."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What a reload changed. ``settings`` are the keys that stand alone, such as ``server.max_requests``.

    A rule of the policy goes by its name, or else by its place, from 0. ``digest`` is the SHA-256 of the file.
    """

    providers: Difference = field(default_factory=Difference)
    routes: Difference = field(default_factory=Difference)
    plans: Difference = field(default_factory=Difference)
    accounts: Difference = field(default_factory=Difference)
    rules: Difference = field(default_factory=Difference)
    aliases: Difference = field(default_factory=Difference)
    settings: tuple[str, ...] = ()
    digest: str = ""

    def __bool__(self) -> bool:
        return bool(self.settings) or any(difference for _, difference in self.lists())

    def lists(self) -> Iterator[tuple[str, Difference]]:
        """Yield what changed in each list of the file, by the list's name."""
        for name in _LISTS:
            yield name, getattr(self, name)


def changes_between(before: Settings, after: Settings, digest: str = "") -> Changes:
    """Return what another configuration changes."""
    old, new = _entries(before), _entries(after)
    return Changes(
        **{name: _difference(old[name], new[name]) for name in _LISTS},
        settings=tuple(_keys_that_differ(before, after)),
        digest=digest,
    )


def need_restart(before: Settings, after: Settings) -> list[str]:
    """Return a line for every key that another configuration changes, and a running gateway cannot."""
    return [
        f"server.{key}: is {was!r}, and {becomes!r} needs a restart; leave it as it was to reload the rest"
        for key in AT_START
        if (was := getattr(before.server, key)) != (becomes := getattr(after.server, key))
    ]


def _entries(settings: Settings) -> Mapping[str, Mapping[str, object]]:
    return {
        "providers": {entry.name: entry for entry in settings.providers},
        "routes": {entry.name: entry for entry in settings.routes},
        "plans": {entry.name: entry for entry in settings.plans},
        "accounts": {entry.name: entry for entry in settings.accounts},
        "rules": {rule.name or str(at): rule for at, rule in enumerate(settings.policy.rules)},
        "aliases": settings.aliases,
    }


def _difference(before: Mapping[str, object], after: Mapping[str, object]) -> Difference:
    return Difference(
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        changed=tuple(name for name, entry in after.items() if name in before and before[name] != entry),
    )


def _keys_that_differ(before: Settings, after: Settings) -> Iterator[str]:
    """Yield every key of the tables that there is one of."""
    for label in type(before).model_fields:
        old, new = getattr(before, label), getattr(after, label)
        if isinstance(old, BaseModel) and isinstance(new, BaseModel) and old != new:
            yield from (f"{label}.{key}" for key in _fields(old) if getattr(old, key) != getattr(new, key))
    if before.server.admin_key != after.server.admin_key:
        yield "admin_key"


def _fields(table: BaseModel) -> Iterable[str]:
    return (key for key in type(table).model_fields if key != "rules")


class NotReloaded(Exception):
    """Nothing has changed. ``problems`` says why, one line each; ``code`` is what an administrator is answered."""

    def __init__(self, code: ErrorCode, problems: Sequence[str]) -> None:
        super().__init__(code, tuple(problems))  # as pickle hands them back
        self.code = code
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join(self.told())

    def told(self) -> list[str]:
        """Return the lines as they are shown: of very many the first, and of a very long one its beginning."""
        shown = [cut(line, _LINE) for line in self.problems[:_LINES]]
        more = len(self.problems) - len(shown)
        return [*shown, f"and {more} more"] if more else shown


def cut(text: str, most: int) -> str:
    """Return a text; of one that is longer than so many characters its beginning."""
    return text if len(text) <= most else text[: most - 3] + "..."


class Reloading(Protocol):
    """Who can be asked to read the configuration again."""

    async def reload(self, actor: str) -> Changes:
        """Read it, and serve by it. ``actor`` is who the audit log says it was.

        Raises:
            NotReloaded: it cannot be used; nothing has changed.
        """
        ...
