"""What of an exchange never reaches a tape: secrets, by what they look like, where they stand, and which they are.

Pure. What a secret is replaced by is the same for all, so that it tells nothing, and matches anything at replay.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final
from urllib.parse import quote

from flatfee.server.settings import Settings

REDACTED: Final = "[redacted]"

_NAMES: Final = (
    r"(?:(?:api|account|access|signing|encryption)[_-]?key|secret|passw(?:or)?d|passwd"
    r"|(?:access|refresh|auth|bearer|session)[_-]?token|private[_-]?key)"
)

PATTERNS: Final[Mapping[str, str]] = {
    "private key": (
        r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----|\Z)"
    ),
    "JSON web token": r"(?<![\w-])eyJ[\w-]{6,}\.[\w-]{6,}(?:\.[\w-]*)?",
    "key of OpenAI, Anthropic, OpenRouter, Stripe": r"(?<![A-Za-z0-9])[sr]k[-_][A-Za-z0-9_-]{8,}",
    "key of flatfee": r"\bff_[a-z]+_[0-9A-Za-z]{8,}",
    "key of GitHub": r"\b(?:gh[opsur]_|github_pat_)[A-Za-z0-9_]{16,}",
    "key of GitLab, Hugging Face, Groq, xAI, npm": r"\b(?:glpat-|hf_|gsk_|xai-|npm_)[A-Za-z0-9_-]{16,}",
    "key of Perplexity, Tavily, LangSmith, Replicate, PyPI": r"\b(?:pplx-|tvly-|lsv2_|r8_|pypi-)[A-Za-z0-9_-]{16,}",
    "key of Amazon": r"\b(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}\b",
    "key of Google": r"\bAIza[0-9A-Za-z_-]{30,}",
    "token of Slack": r"\bxox[a-z]-[A-Za-z0-9-]{10,}|(?P<keep_start>hooks\.slack\.com/services/)[\w/]{16,}",
    "credentials of a header": r"\b(?P<keep_scheme>Bearer|(?:bearer|BEARER|[Bb]asic)(?=\s+\S*\d))\s+[\w.~+/=-]{8,}",
    "cookie": r"(?i)(?P<keep_name>\bcookie:\s*)[^\s\"'\\][^\n\"'\\]{5,}",
    "credentials in a URL": (
        r"(?P<keep_start>://[^/\s:@]+:)[^/\s?#\"'\\<>]+(?=@)"
        r"|(?P<keep_slashes>://)[\w.~+=-]{16,}(?=@)"
    ),
    "key in a URL": r"(?i)(?P<keep_name>[?&](?:key|sig|token|code|[\w-]{0,20}signature)=)[^\s&#\"'\\]{8,}",
    "quoted value of a telling name": (
        rf"(?i)(?P<keep_name>{_NAMES}[\w-]{{0,20}}\\?[\"']?\s*[:=]\s*\\?[\"'])[^\"'\\\n]{{6,}}"
    ),
    "value of a telling name": (
        rf"(?i)(?P<keep_name>{_NAMES}[\w-]{{0,20}}(?P<quote>\\?[\"']?)\s*[:=]\s*)[^\s\"'\\,;}}&]{{6,}}"
    ),
}
"""What a secret looks like. A group whose name begins with ``keep`` stays; ``quote`` stands around what is put there
instead: the name has quotes, so it is JSON, and stays JSON.

Each takes time in proportion to the text, whatever that is: models and callers choose it.
"""

EMAIL: Final = r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b"
"""Not redacted by itself: give it as ``redact=EMAIL``."""

_TELLING: Final = rf"(?i)[\w-]{{0,40}}{_NAMES}[\w-]{{0,40}}|authorization|(?:set-)?cookie|credentials?"
_SHORT: Final = 8
_STEP: Final = re.compile(r"\.(\*|[\w-]+)|\[(\*|\d+)\]")

Redact = str | re.Pattern[str] | Callable[[str], str]
"""A regular expression, a path into the body such as ``$.messages[*].name``, or a function of every text."""


@cache
def _looks() -> tuple[re.Pattern[str], ...]:
    """Return what secrets look like; not made before something is recorded."""
    return tuple(re.compile(text, re.DOTALL) for text in PATTERNS.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Redaction:
    """What is taken out. ``secrets`` are known ones; ``more`` what the author of the tapes adds."""

    secrets: tuple[str, ...] = field(default=(), repr=False)
    patterns: tuple[re.Pattern[str], ...] = field(default_factory=_looks)
    paths: tuple[tuple[str, ...], ...] = ()
    calls: tuple[Callable[[str], str], ...] = ()

    @classmethod
    def of(cls, more: Redact | Iterable[Redact] = (), secrets: Iterable[str] = ()) -> Redaction:
        """Return the redaction that takes out known secrets, what looks like one, and more.

        Raises:
            ValueError: an expression or a path that is none.
        """
        given = [more] if isinstance(more, str | re.Pattern) or callable(more) else list(more)
        base = cls()
        return cls(
            secrets=tuple(sorted({secret for secret in secrets if secret}, key=len, reverse=True)),
            patterns=(*base.patterns, *(_pattern(entry) for entry in given if _is_pattern(entry))),
            paths=tuple(path_of(entry) for entry in given if isinstance(entry, str) and entry.startswith("$")),
            calls=tuple(entry for entry in given if not isinstance(entry, str | re.Pattern)),
        )

    def text(self, text: str) -> str:
        """Return a text without secrets."""
        for secret in self.secrets:
            text = _without(secret, text)
        for pattern in self.patterns:
            text = pattern.sub(_replaced, text)
        for call in self.calls:
            text = call(text)
        return text

    def json(self, value: Any) -> Any:
        """Return JSON without secrets, in its names and its values."""
        return self._leaves(self._at_paths(value))

    def _leaves(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self._leaves(part) for part in value]
        if not isinstance(value, dict):
            return value
        return {
            self.text(name): _hidden(part) if re.fullmatch(_TELLING, name) and _tells(part) else self._leaves(part)
            for name, part in value.items()
        }

    def _at_paths(self, value: Any) -> Any:
        for path in self.paths:
            value = _blank(value, path)
        return value

    def events(self, said: Sequence[Any]) -> list[Any]:
        """Return what the events of a stream say, JSON or text, without secrets: those that came in pieces, too."""
        found = copy.deepcopy(list(said))
        pieces: dict[tuple[Any, ...], list[tuple[dict[str, Any], str]]] = {}
        for value in found:
            for place, parent, name in _grown(value):
                pieces.setdefault(place, []).append((parent, name))
        for parts in pieces.values():
            self._spread(parts)
        # Not before: of a secret whose first piece looks like one, the others would be left.
        return [self.json(value) for value in found]

    def _spread(self, parts: list[tuple[dict[str, Any], str]]) -> None:
        """Take secrets out of a text that came in pieces: what is put in their place stands in the first piece."""
        texts = [parent[name] for parent, name in parts]
        whole = "".join(texts)
        clean = self.text(whole)
        if clean == whole:
            return
        begin = _alike(whole, clean)
        end = len(whole) - _alike(whole[begin:][::-1], clean[begin:][::-1])
        middle, at = clean[begin : len(clean) - (len(whole) - end)], 0
        for (parent, name), text in zip(parts, texts, strict=True):
            before, after = text[: max(0, begin - at)], text[max(0, end - at) :]
            inside = at <= begin < at + len(text)
            if inside or at < end <= at + len(text) or begin <= at < end:
                parent[name] = before + (middle if inside else "") + after
            at += len(text)


def secrets_of(settings: Settings) -> list[str]:
    """Return every secret of a configuration."""
    held = [provider.api_key for provider in settings.providers]
    held.append(settings.server.admin_key)
    held += [key.secret for account in settings.accounts for project in account.projects for key in project.keys]
    return [secret.get_secret_value() for secret in held if secret is not None]


def _without(secret: str, text: str) -> str:
    """Take a known secret out, as it is and as JSON and URLs write it. A short one may be a word: only whole words."""
    for form in dict.fromkeys((secret, json.dumps(secret)[1:-1], quote(secret, safe=""))):
        if form in text:
            edge = r"\b" if len(secret) < _SHORT else ""
            text = re.sub(edge + re.escape(form) + edge, REDACTED, text)
    return text


def _tells(value: Any) -> bool:
    """Whether a value of a telling name may be a secret; an object is looked into: it may be a schema."""
    if isinstance(value, list):
        return all(isinstance(part, str) for part in value)
    return isinstance(value, str | int | float) and not isinstance(value, bool) and value != ""


def _hidden(value: Any) -> Any:
    return [REDACTED for _ in value] if isinstance(value, list) else REDACTED


def _replaced(match: re.Match[str]) -> str:
    groups = match.groupdict()
    kept = "".join(text for name, text in groups.items() if text and name.startswith("keep"))
    quote = groups.get("quote") or ""
    return f"{kept}{' ' if 'keep_scheme' in groups else ''}{quote}{REDACTED}{quote}"


def _is_pattern(entry: Redact) -> bool:
    return isinstance(entry, re.Pattern) or (isinstance(entry, str) and not entry.startswith("$"))


def _pattern(entry: Redact) -> re.Pattern[str]:
    if isinstance(entry, re.Pattern):
        return entry
    try:
        return re.compile(str(entry))
    except re.error as error:
        message = f"redact={entry!r} is no regular expression ({error}); paths begin with '$.'."
        raise ValueError(message) from error


def path_of(entry: str, option: str = "redact") -> tuple[str, ...]:
    """Return the steps of a path such as ``$.messages[*].name``; ``option`` is named in errors.

    Raises:
        ValueError: it is no path.
    """
    steps = tuple(name or index for name, index in _STEP.findall(entry[1:]))
    if not steps or _STEP.sub("", entry[1:]):
        message = f"{option}={entry!r} is no path; write one such as '$.messages[*].name'."
        raise ValueError(message)
    return steps


def _blank(value: Any, path: tuple[str, ...]) -> Any:
    if not path:
        return REDACTED
    step, rest = path[0], path[1:]
    if isinstance(value, dict):
        return {name: _blank(part, rest) if step in ("*", name) else part for name, part in value.items()}
    if isinstance(value, list):
        return [_blank(part, rest) if step in ("*", str(index)) else part for index, part in enumerate(value)]
    return value


def _grown(value: Any) -> Iterator[tuple[tuple[Any, ...], dict[str, Any], str]]:
    """Yield the texts of an event that go on with those of earlier ones: where they belong, and where they stand."""
    choices = value.get("choices") if isinstance(value, dict) else None
    for place, choice in enumerate(choices if isinstance(choices, list) else ()):
        if isinstance(choice, dict):
            yield from _texts(choice.get("delta"), (choice.get("index", place),))


def _texts(value: Any, place: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], dict[str, Any], str]]:
    if isinstance(value, list):
        for index, part in enumerate(value):
            number = part.get("index", index) if isinstance(part, dict) else index
            yield from _texts(part, (*place, number))
    elif isinstance(value, dict):
        for name, part in value.items():
            if isinstance(part, str):
                yield (*place, name), value, name
            else:
                yield from _texts(part, (*place, name))


def _alike(one: str, other: str) -> int:
    """Return how many characters two texts have in common at their beginning."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
