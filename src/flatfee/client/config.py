"""Settings of a client, checked once. Sans-IO: the environment is passed in.

OpenAI's variables are never read: a key for one service must not travel to another by accident.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Self, Unpack
from urllib.parse import urlsplit

from flatfee.client.arguments import AsyncApiKey, BaseURL, IgnoredOptions, ignore
from flatfee.client.retry import RetryPolicy
from flatfee.errors import ConfigurationError
from flatfee.types.sentinel import NOT_GIVEN, NotGiven, absent
from flatfee.types.timeout import Timeout
from flatfee.version import __version__
from flatfee.wire import DEFAULT_BASE_URL, Header

if TYPE_CHECKING:
    from flatfee.client.turns import Pacing

API_KEY_ENV: Final = "FLATFEE_API_KEY"
BASE_URL_ENV: Final = "FLATFEE_BASE_URL"
CUSTOM_HEADERS_ENV: Final = "FLATFEE_CUSTOM_HEADERS"

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


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
    if not isinstance(value, str):
        raise ConfigurationError(
            f"The header {name} is of type {type(value).__name__}; use text, or flatfee.omit to leave it out."
        )
    if not value.isascii() or not value.isprintable():
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
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    pacing: Pacing | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: Mapping[str, object] = field(default_factory=dict, repr=False)

    @classmethod
    def read(
        cls,
        env: Mapping[str, str],
        *,
        api_key: AsyncApiKey | None = None,
        base_url: object = None,
        timeout: Any = NOT_GIVEN,
        max_retries: object = NOT_GIVEN,
        retry: object = None,
        pacing: Pacing | None = None,
        default_headers: Mapping[str, str | NotGiven] | None = None,
        default_query: Mapping[str, object] | None = None,
    ) -> ClientConfig:
        """Check a client's arguments; what is absent comes from ``env``, then from the defaults.

        Raises:
            ConfigurationError: names the bad value and the cure.
        """
        default_url = env.get(BASE_URL_ENV) or DEFAULT_BASE_URL
        headers = _own_headers() | _headers_of(env.get(CUSTOM_HEADERS_ENV, ""))
        return cls(
            api_key=_given_key(env.get(API_KEY_ENV) if _unsaid(api_key) else api_key),
            base_url=_checked_base_url(default_url if _unsaid(base_url) else base_url),
            timeout=Timeout() if absent(timeout) else Timeout.of(timeout),
            retry=RetryPolicy.of(retry, max_retries),
            pacing=pacing,
            headers=_laid_over(headers, default_headers),
            query=dict(default_query or {}),
        )

    def but(
        self,
        *,
        api_key: AsyncApiKey | None = None,
        base_url: object = None,
        timeout: Any = NOT_GIVEN,
        max_retries: object = NOT_GIVEN,
        retry: object = None,
        default_headers: Mapping[str, str | NotGiven] | None = None,
        default_query: Mapping[str, object] | None = None,
        set_default_headers: Mapping[str, str | NotGiven] | None = None,
        set_default_query: Mapping[str, object] | None = None,
        **ignored: Unpack[IgnoredOptions],
    ) -> ClientConfig:
        """Return a copy with some settings changed; headers and query are added to those there are, or set anew.

        Raises:
            ConfigurationError: names the bad value and the cure.
        """
        ignore(ignored)
        headers, query = self.headers, self.query
        if not _unsaid(set_default_headers):
            headers = _laid_over(_own_headers(), set_default_headers)
        if not _unsaid(set_default_query):
            query = set_default_query or {}
        return replace(
            self,
            api_key=self.api_key if _unsaid(api_key) else _given_key(api_key),
            base_url=self.base_url if _unsaid(base_url) else _checked_base_url(base_url),
            timeout=self.timeout if absent(timeout) else Timeout.of(timeout),
            retry=RetryPolicy.of(retry, max_retries, self.retry),
            headers=_laid_over(headers, default_headers),
            query={**query, **(default_query or {})},
        )

    def __deepcopy__(self, _: dict[int, Any]) -> Self:
        return self  # frozen; and a key's callable is the caller's, with whatever it is bound to

    @property
    def max_retries(self) -> int:
        """How often a failed try is repeated at most."""
        return self.retry.max_retries

    def authorization(self) -> str:
        """Return the header with the key. A callable is asked on every try, so keys may rotate."""
        return f"Bearer {_checked_key(self.api_key()) if callable(self.api_key) else self.api_key}"

    async def awaited_authorization(self) -> str:
        """Do what ``authorization`` does, for a callable whose result may have to be awaited."""
        if not callable(self.api_key):
            return f"Bearer {self.api_key}"
        key = self.api_key()
        return f"Bearer {_checked_key(await key if isinstance(key, Awaitable) else key)}"


class Configured:
    """What a client shows of its settings, to be read, under openai-python's names."""

    _config: ClientConfig

    @property
    def api_key(self) -> str:
        """The key; empty for one that a callable tells."""
        return "" if callable(self._config.api_key) else self._config.api_key

    @property
    def base_url(self) -> BaseURL:
        """Where requests go: text with a slash at its end, which knows its ``host``."""
        return BaseURL(f"{self._config.base_url}/")

    @property
    def timeout(self) -> Timeout:
        """The time limits of one try."""
        return self._config.timeout

    @property
    def max_retries(self) -> int:
        """How often a failed try is repeated."""
        return self._config.max_retries

    @property
    def default_headers(self) -> dict[str, str]:
        """What is sent with every request, apart from the key; names are in lower case."""
        return dict(self._config.headers)

    @property
    def default_query(self) -> dict[str, object]:
        """What is added to the URL of every request."""
        return dict(self._config.query)

    def __repr__(self) -> str:
        config = vars(self).get("_config")  # tracebacks show clients that were never finished
        return f"{type(self).__name__}({f'base_url={config.base_url!r}' if config else ''})"


def _unsaid(value: object) -> bool:
    return value is None or absent(value)


def _own_headers() -> dict[str, str]:
    return {"accept": "application/json", "user-agent": f"flatfee-python/{__version__}"}


def _laid_over(headers: Mapping[str, str], given: Mapping[str, str | NotGiven] | None) -> dict[str, str]:
    """Return ``headers`` with what a caller gave laid over them; a value that was not given takes one away."""
    found = dict(headers)
    for name, value in (given or {}).items():
        key = header_name(name)
        if key == Header.AUTHORIZATION:
            raise ConfigurationError("default_headers holds Authorization; pass the key as api_key=.")
        if absent(value):
            found.pop(key, None)
        else:
            found[key] = header_value(name, value)
    return found


def _headers_of(lines: str) -> dict[str, str]:
    """Read headers, one ``Name: value`` on a line; empty lines are nothing."""
    found: dict[str, str] = {}
    for number, line in enumerate(lines.split("\n"), 1):
        if not line.strip():
            continue
        name, colon, value = line.partition(":")
        try:
            found |= _laid_over({}, {name.strip() if colon else "": value.strip()})
        except ConfigurationError:  # its text quotes the line, which may be a secret without a name
            raise ConfigurationError(
                f"Line {number} of {CUSTOM_HEADERS_ENV} is not a header; write Name: value in printable ASCII, "
                f"one on a line, and the key into {API_KEY_ENV}."
            ) from None
    return found
