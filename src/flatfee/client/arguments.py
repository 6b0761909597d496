"""What a client is given: openai-python's arguments and ours, as typed dictionaries. They are checked in ``config``."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol, TypedDict
from urllib.parse import urlsplit

from flatfee.client.retry import RetryPolicy
from flatfee.types.params import Omittable
from flatfee.types.sentinel import NotGiven, absent
from flatfee.types.timeout import TimeoutParam

log: Final = logging.getLogger("flatfee.client")

ApiKey = str | Callable[[], str]
AsyncApiKey = str | Callable[[], str | Awaitable[str]]


class URLParts(Protocol):
    """What is used of an ``httpx.URL``, beside its text."""

    @property
    def scheme(self) -> str:
        """``http`` or ``https``."""
        ...

    @property
    def host(self) -> str:
        """The name or address of the host."""
        ...


class BaseURL(str):
    """Where a client sends to: text that ends in a slash, with the parts that openai-python's URL has."""

    __slots__ = ()

    @property
    def scheme(self) -> str:
        """``http`` or ``https``."""
        return urlsplit(self).scheme

    @property
    def host(self) -> str:
        """The name or address of the host."""
        return urlsplit(self).hostname or ""

    @property
    def port(self) -> int | None:
        """The port, if the URL names one."""
        return urlsplit(self).port

    @property
    def path(self) -> str:
        """The path that every request begins with."""
        return urlsplit(self).path


class IgnoredOptions(TypedDict, total=False):
    """Arguments of openai-python's clients that have no meaning here. They are taken, and nothing is done with them.

    ``None`` is silent; a value is one line in the log ``flatfee.client``, at debug level.
    """

    admin_api_key: object
    data_residency: object
    organization: object
    project: object
    provider: object
    webhook_secret: object
    websocket_base_url: object
    workload_identity: object
    _enforce_credentials: object
    _extra_kwargs: object
    _strict_response_validation: object


class SharedOptions(IgnoredOptions, total=False):
    """What ``with_options`` may change, whoever awaits.

    ``default_headers`` and ``default_query`` are added to; ``set_default_headers`` and ``set_default_query``
    take the place of all that were there.
    """

    base_url: Omittable[str | URLParts | None]
    timeout: Omittable[TimeoutParam]
    max_retries: Omittable[int]
    retry: RetryPolicy | None
    default_headers: Mapping[str, str | NotGiven] | None
    default_query: Mapping[str, object] | None
    set_default_headers: Mapping[str, str | NotGiven] | None
    set_default_query: Mapping[str, object] | None


class ClientSettings(SharedOptions, total=False):
    """What ``with_options`` of a blocking client may change of its settings."""

    api_key: ApiKey | None


class AsyncClientSettings(SharedOptions, total=False):
    """What ``with_options`` of a client for coroutines may change of its settings."""

    api_key: AsyncApiKey | None


def ignore(arguments: Mapping[str, object]) -> None:
    """Take arguments of openai-python's that have no meaning here.

    Raises:
        TypeError: one of them is not openai-python's either.
    """
    for name, value in arguments.items():
        if name not in _IGNORED:
            raise TypeError(f"A client has no argument {name!r}.")
        if value is not None and not absent(value):
            log.debug("client.argument_ignored name=%s", name)


_IGNORED: Final = frozenset(IgnoredOptions.__annotations__)
