"""Settings of a client, checked once. Sans-IO: the environment is passed in.

OpenAI's variables are never read: a key for one service must not travel to another by accident.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypedDict
from urllib.parse import urlsplit

from flatfee.client.retry import DEFAULT_MAX_RETRIES
from flatfee.errors import ConfigurationError
from flatfee.types.params import Omittable
from flatfee.types.sentinel import NOT_GIVEN, NotGiven, absent
from flatfee.types.timeout import Timeout
from flatfee.version import __version__
from flatfee.wire import DEFAULT_BASE_URL, Header

API_KEY_ENV: Final = "FLATFEE_API_KEY"
BASE_URL_ENV: Final = "FLATFEE_BASE_URL"

ApiKey = str | Callable[[], str]
AsyncApiKey = str | Callable[[], str | Awaitable[str]]

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class SharedOptions(TypedDict, total=False):
    """What ``with_options`` may change, whoever awaits. ``default_headers`` and ``default_query`` are added to."""

    base_url: str | None
    timeout: Omittable[float | Timeout | None]
    max_retries: Omittable[int]
    default_headers: Mapping[str, str] | None
    default_query: Mapping[str, object] | None


class ClientOptions(SharedOptions, total=False):
    """What ``with_options`` of a blocking client may change."""

    api_key: ApiKey | None


class AsyncClientOptions(SharedOptions, total=False):
    """What ``with_options`` of a client for coroutines may change."""

    api_key: AsyncApiKey | None


def header_name(name: object) -> str:
    """Return ``name`` in lower case if it may name a header (RFC 9110, section 5.6.2).

    Raises:
        ConfigurationError: it holds a character that a name cannot.
    """
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise ConfigurationError(f"{name!r} is not the name of a header; use letters, digits and -.")
    return name.lower()


def header_value(name: str, value: object) -> str:
    """Return ``value`` if it may stand in a header.

    Raises:
        ConfigurationError: it is not printable ASCII. The message does not show it: it may be secret.
    """
    if not isinstance(value, str) or not value.isascii() or not value.isprintable():
        raise ConfigurationError(f"The header {name} must be printable ASCII text without line breaks.")
    return value


def _given_key(key: object) -> Any:
    """Return a key, checked, or the callable to ask for it."""
    return key if callable(key) else _checked_key(key)


def _checked_key(key: object) -> str:
    if isinstance(key, Awaitable):
        if isinstance(key, Coroutine):
            key.close()  # it is not going to be awaited, and needs no warning beside this error
        raise ConfigurationError(
            "api_key= is a callable that must be awaited; use AsyncClient, or one that returns text."
        )
    if key is not None and not isinstance(key, str):
        raise ConfigurationError(
            f"The API key is of type {type(key).__name__}; use text, or a callable that returns text."
        )
    if not key or key.isspace():
        raise ConfigurationError(
            f"There is no API key. Set {API_KEY_ENV}, or pass api_key= (text, or a callable that returns text)."
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError(
            "The API key holds a space, a line break or a character outside ASCII. Was more than the key copied?"
        )
    return key


def _checked_base_url(given: object) -> str:
    if not isinstance(given, str) and not (hasattr(given, "scheme") and hasattr(given, "host")):
        raise ConfigurationError(f"base_url is of type {type(given).__name__}; use text.")
    url = str(given)
    cure = f"use a URL such as {DEFAULT_BASE_URL}."
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # its text quotes what it could not read, which may be a password
        raise ConfigurationError(f"base_url is not a URL; {cure}") from None
    shown = f"base_url{_showable(url)}"
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError("base_url holds a user name or a password; pass the key as api_key=.")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigurationError(f"{shown} is not an http or https URL with a host; {cure}")
    if parts.query or parts.fragment:
        raise ConfigurationError(f"{shown} has a query or a fragment; pass default_query= instead.")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigurationError(f"{shown} holds a character that a URL cannot; {cure}")
    return url.rstrip("/")


def _showable(url: str) -> str:
    """Return scheme and host for a message; nothing of what may hold a secret, or be one."""
    parts = urlsplit(url)
    if "@" in url or "?" in url or not parts.scheme or not parts.hostname:
        return ""
    return f" {f'{parts.scheme}://{parts.hostname}'!r}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """Everything a client knows. ``headers`` are those of every request, names in lower case."""

    api_key: AsyncApiKey = field(repr=False)
    base_url: str = DEFAULT_BASE_URL
    timeout: Timeout = field(default_factory=Timeout)
    max_retries: int = DEFAULT_MAX_RETRIES
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: Mapping[str, object] = field(default_factory=dict, repr=False)

    @classmethod
    def read(
        cls,
        env: Mapping[str, str],
        *,
        api_key: AsyncApiKey | None = None,
        base_url: str | None = None,
        timeout: Any = NOT_GIVEN,
        max_retries: int = DEFAULT_MAX_RETRIES,
        default_headers: Mapping[str, str] | None = None,
        default_query: Mapping[str, object] | None = None,
    ) -> ClientConfig:
        """Check a client's arguments; what is absent comes from ``env``, then from the defaults.

        Raises:
            ConfigurationError: names the bad value and the cure.
        """
        default_url = env.get(BASE_URL_ENV) or DEFAULT_BASE_URL
        own = {"accept": "application/json", "user-agent": f"flatfee-python/{__version__}"}
        return cls(
            api_key=_given_key(env.get(API_KEY_ENV) if api_key is None else api_key),
            base_url=_checked_base_url(default_url if base_url is None else base_url),
            timeout=Timeout() if absent(timeout) else Timeout.of(timeout),
            max_retries=_checked_retries(max_retries),
            headers=own | _checked_headers(default_headers),
            query=dict(default_query or {}),
        )

    def but(
        self,
        *,
        api_key: AsyncApiKey | None = None,
        base_url: str | None = None,
        timeout: Any = NOT_GIVEN,
        max_retries: int | NotGiven = NOT_GIVEN,
        default_headers: Mapping[str, str] | None = None,
        default_query: Mapping[str, object] | None = None,
    ) -> ClientConfig:
        """Return a copy with some settings changed; headers and query are added to those there are."""
        return replace(
            self,
            api_key=self.api_key if api_key is None else _given_key(api_key),
            base_url=self.base_url if base_url is None else _checked_base_url(base_url),
            timeout=self.timeout if absent(timeout) else Timeout.of(timeout),
            max_retries=self.max_retries if isinstance(max_retries, NotGiven) else _checked_retries(max_retries),
            headers={**self.headers, **_checked_headers(default_headers)},
            query={**self.query, **(default_query or {})},
        )

    def authorization(self) -> str:
        """Return the header with the key. A callable is asked on every try, so keys may rotate."""
        return f"Bearer {_checked_key(self.api_key()) if callable(self.api_key) else self.api_key}"

    async def awaited_authorization(self) -> str:
        """Do what ``authorization`` does, for a callable whose result may have to be awaited."""
        if not callable(self.api_key):
            return f"Bearer {self.api_key}"
        key = self.api_key()
        return f"Bearer {_checked_key(await key if isinstance(key, Awaitable) else key)}"


def _checked_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    found = {header_name(name): header_value(name, value) for name, value in (headers or {}).items()}
    if Header.AUTHORIZATION in found:
        raise ConfigurationError("default_headers holds Authorization; pass the key as api_key=.")
    return found


def _checked_retries(max_retries: object) -> int:
    if not isinstance(max_retries, int) or isinstance(max_retries, bool) or max_retries < 0:
        raise ConfigurationError(f"max_retries is {max_retries!r}; use a whole number, 0 to never try again.")
    return max_retries
