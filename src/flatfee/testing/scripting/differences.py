"""Where a value is not as wanted, for people to read. Pure; what is wanted may have matchers at any depth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from flatfee.testing.scripting.matchers import SHOWN, Equals, matcher, shown


@dataclass(frozen=True, slots=True, repr=False)
class Told:
    """Words that stand for a value."""

    words: str

    def __repr__(self) -> str:
        return self.words


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One place where a value is not as wanted. It becomes text only when somebody reads it."""

    wanted: object
    value: object
    path: str = ""

    def under(self, step: str) -> Difference:
        """Return the same, seen from one step further out."""
        separator = "" if not self.path or self.path.startswith("[") else "."
        return replace(self, path=f"{step}{separator}{self.path}")

    @property
    def texts(self) -> tuple[str, str] | None:
        """The text that was wanted and the one that there is, where one must be the other; the first of them."""
        wanted = self.wanted.wanted if isinstance(self.wanted, Equals) else self.wanted
        return (wanted[:SHOWN], self.value[:SHOWN]) if isinstance(wanted, str) and isinstance(self.value, str) else None

    def __str__(self) -> str:
        wanted = self.wanted.wanted if isinstance(self.wanted, Equals) else self.wanted
        start = 0
        if isinstance(wanted, str) and isinstance(self.value, str):
            start = max(0, _parting(wanted, self.value) - SHOWN // 4)
        return f"expected {_shown(wanted, start)}, got {_shown(self.value, start)}"


def differences(wanted: object, value: object) -> Iterator[Difference]:
    """Yield where ``value`` is not as ``wanted``: an object may have more members, a list has no more entries."""
    if isinstance(wanted, Mapping) and isinstance(value, Mapping):
        for name, part in wanted.items():
            yield from (found.under(str(name)) for found in differences(part, value.get(name)))
    elif isinstance(wanted, Sequence) and not isinstance(wanted, str | bytes) and isinstance(value, list | tuple):
        if len(wanted) != len(value):
            yield Difference(wanted=Told(f"{len(wanted)} entries"), value=Told(f"{len(value)}: {shown(value)}"))
        for index, (part, had) in enumerate(zip(wanted, value, strict=False)):
            yield from (found.under(f"[{index}]") for found in differences(part, had))
    elif not matcher(wanted).holds(value):
        yield Difference(wanted=wanted, value=value)


def _shown(value: object, start: int) -> str:
    return "nothing" if value is None else shown(value, start)


def _parting(one: str, other: str) -> int:
    """Return where two texts begin to differ."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(one), len(other)))
