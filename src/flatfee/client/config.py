"""Settings of a client, checked once. Sans-IO: the environment is passed in.

OpenAI's variables are never read: a key for one service must not travel to another by accident.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import urlsplit

from flatfee.client.retry import DEFAULT_MAX_RETRIES
from flatfee.errors import ConfigurationError
from flatfee.types.sentinel import NOT_GIVEN, NotGiven, absent
from flatfee.types.timeout import Timeout
from flatfee.version import __version__
from flatfee.wire import DEFAULT_BASE_URL, Header

API_KEY_ENV: Final = "FLATFEE_API_KEY"
BASE_URL_ENV: Final = "FLATFEE_BASE_URL"

ApiKey = str | Callable[[], str]


def header_value(name: str, value: object) -> str:
    """Return ``value`` if it may stand in a header.

    Raises:
        ConfigurationError: it is not printable ASCII. The message does not show it: it may be secret.
    """
    if not isinstance(value, str) or not value.isascii() or not value.isprintable():
        raise ConfigurationError(f"The header {name} must be printable ASCII text without line breaks.")
    return value


def _checked_key(key: object) -> str:
    if not isinstance(key, str) or not key.strip():
        raise ConfigurationError(
            f"There is no API key. Set {API_KEY_ENV}, or pass api_key= (text, or a callable that returns text)."
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError(
            "The API key holds a space, a line break or a character outside ASCII. Was more than the key copied?"
        )
    return key


def _checked_base_url(url: str) -> str:
    cure = f"use a URL such as {DEFAULT_BASE_URL}."
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ConfigurationError(f"base_url {url!r} is not a URL ({error}); {cure}") from None
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError("base_url holds a user name or a password; pass the key as api_key=.")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigurationError(f"base_url {url!r} is not an http or https URL with a host; {cure}")
    if parts.query or parts.fragment:
        raise ConfigurationError(f"base_url {url!r} has a query or a fragment; pass default_query= instead.")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigurationError(f"base_url {url!r} holds a character that a URL cannot; {cure}")
    return url.rstrip("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """Everything a client knows. ``headers`` are those of every request, names in lower case."""

    api_key: ApiKey = field(repr=False)
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
        api_key: ApiKey | None = None,
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
            api_key=api_key
            if callable(api_key)
            else _checked_key(env.get(API_KEY_ENV) if api_key is None else api_key),
            base_url=_checked_base_url(default_url if base_url is None else base_url),
            timeout=Timeout() if absent(timeout) else Timeout.of(timeout),
            max_retries=_checked_retries(max_retries),
            headers=own | _checked_headers(default_headers),
            query=dict(default_query or {}),
        )

    def but(
        self,
        *,
        api_key: ApiKey | None = None,
        base_url: str | None = None,
        timeout: Any = NOT_GIVEN,
        max_retries: int | NotGiven = NOT_GIVEN,
        default_headers: Mapping[str, str] | None = None,
    ) -> ClientConfig:
        """Return a copy with some settings changed; headers are added to those there are."""
        return replace(
            self,
            api_key=self.api_key if api_key is None else api_key if callable(api_key) else _checked_key(api_key),
            base_url=self.base_url if base_url is None else _checked_base_url(base_url),
            timeout=self.timeout if absent(timeout) else Timeout.of(timeout),
            max_retries=self.max_retries if isinstance(max_retries, NotGiven) else _checked_retries(max_retries),
            headers={**self.headers, **_checked_headers(default_headers)},
        )

    def authorization(self) -> str:
        """Return the header with the key. A callable is asked on every try, so keys may rotate."""
        return f"Bearer {_checked_key(self.api_key()) if callable(self.api_key) else self.api_key}"


def _checked_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    found = {name.lower(): header_value(name, value) for name, value in (headers or {}).items()}
    if Header.AUTHORIZATION in found:
        raise ConfigurationError("default_headers holds Authorization; pass the key as api_key=.")
    return found


def _checked_retries(max_retries: object) -> int:
    if not isinstance(max_retries, int) or isinstance(max_retries, bool) or max_retries < 0:
        raise ConfigurationError(f"max_retries is {max_retries!r}; use a whole number, 0 to never try again.")
    return max_retries
