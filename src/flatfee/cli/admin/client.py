"""The admin API's client: one call, one answer, and failures that name themselves.

The only module of the command line that names the HTTP library, and only when a command calls. It knows
paths and JSON, and nothing of what they mean.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote

if TYPE_CHECKING:
    import httpx

ROOT: Final = "/admin/v1"
TIMEOUT: Final = 30.0
"""Seconds to wait for an answer."""
MAX_PAGE: Final = 100
_SEGMENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*")

Json = dict[str, Any]

_Message = MutableMapping[str, Any]
App = Callable[[_Message, Callable[[], Awaitable[_Message]], Callable[[_Message], Awaitable[None]]], Awaitable[None]]
"""An ASGI app."""


class Refused(Exception):
    """The gateway answered, and said no. ``envelope`` is its answer as it came."""

    def __init__(self, status: int, envelope: Json) -> None:
        error = envelope.get("error")
        told: Json = error if isinstance(error, dict) else {}
        self.status = status
        self.code = str(told.get("code") or f"status {status}")
        self.envelope = envelope
        super().__init__(str(told.get("message") or "The gateway gave no reason."))


class Unreachable(Exception):
    """No answer came, or none of the admin API."""


class NotAName(Exception):
    """A name that cannot be part of a path."""


def path(*segments: str) -> str:
    """Return the path of a resource. Names are checked: ``..`` would lead to another resource.

    Raises:
        NotAName: a segment is not a name or an id.
    """
    for segment in segments:
        if not _SEGMENT.fullmatch(segment) or len(segment) > 128:
            message = f"{segment!r} is not a name; use letters, digits and . _ -, a letter or digit first."
            raise NotAName(message)
    return "/".join(["", *(quote(segment, safe="") for segment in segments)])


class Admin:
    """Calls the admin API over ``http``, in an event loop of its own.

    At its end it closes both, and awaits ``close``.
    """

    def __init__(self, http: httpx.AsyncClient, close: Callable[[], Awaitable[None]] | None = None) -> None:
        self._http = http
        self._close = close
        self._loop = asyncio.Runner()

    @classmethod
    def at(cls, url: str, key: str, *, proxied: bool) -> Self:
        """Speak to a gateway that runs at ``url`` (scheme, host and port).

        ``proxied``: by the way of the proxy that the environment names, if it names one.
        """
        import ssl

        import httpx

        headers = {"authorization": f"Bearer {key}"}
        # Plain HTTP needs no certificates, and to read them takes longer than the call.
        verify = True if url.startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return cls(httpx.AsyncClient(base_url=url, headers=headers, timeout=TIMEOUT, trust_env=proxied, verify=verify))

    @classmethod
    def inside(cls, app: App, close: Callable[[], Awaitable[None]]) -> Self:
        """Speak to a gateway in this process."""
        import httpx

        transport = httpx.ASGITransport(app)
        return cls(httpx.AsyncClient(transport=transport, base_url="http://local", timeout=TIMEOUT), close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._loop:
            self._loop.run(self._end())

    async def _end(self) -> None:
        await self._http.aclose()
        if self._close is not None:
            await self._close()

    def get(self, where: str, **query: str | int | None) -> Json:
        """Return a resource, or one page of a list. What is ``None`` is not asked for."""
        return self._call("GET", where, query=query)

    def post(self, where: str, body: Mapping[str, Any]) -> Json:
        """Make a resource; members that are ``None`` are left to the gateway."""
        return self._call("POST", where, body=body)

    def patch(self, where: str, body: Mapping[str, Any]) -> Json:
        """Change the members that are not ``None``."""
        return self._call("PATCH", where, body=body)

    def delete(self, where: str, **query: str | int | None) -> Json:
        """End a resource."""
        return self._call("DELETE", where, query=query)

    def all(self, where: str, **query: str | int | None) -> Json:
        """Return a whole list, page after page, in the shape of one page."""
        return {"object": "list", "data": list(self.each(where, **query)), "has_more": False}

    def each(self, where: str, *, after: str | int | None = None, **query: str | int | None) -> Iterator[Json]:
        """Yield what a list holds behind ``after``, page after page."""
        while True:
            page = self.get(where, limit=MAX_PAGE, after=after, **query)
            yield from page["data"]
            last, after = after, cursor(page)
            if after is None or after == last:
                return

    def _call(
        self,
        method: str,
        where: str,
        *,
        query: Mapping[str, str | int | None] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Json:
        """Send one request.

        Raises:
            Refused: the gateway answered with an error.
            Unreachable: it did not answer, or is no gateway of ours.
        """
        import httpx

        params = {name: value for name, value in (query or {}).items() if value is not None}
        sent = {name: value for name, value in body.items() if value is not None} if body is not None else None
        request = self._http.build_request(method, ROOT + where, params=params, json=sent)
        at = f"{request.url.scheme}://{request.url.netloc.decode()}"
        try:
            response = self._loop.run(self._http.send(request))
        except httpx.TimeoutException as error:
            message = f"{at} did not answer within {TIMEOUT:g} s."
            raise Unreachable(message) from error
        except httpx.HTTPError as error:
            message = f"{at} cannot be reached: {error}."
            raise Unreachable(message) from error
        return _answer(response, at)


def cursor(page: Json) -> str | None:
    """Return the ``after`` of the page that follows, or ``None`` if this is the last one."""
    if not page.get("has_more") or not page["data"]:
        return None
    last: Json = page["data"][-1]
    return str(next(last[name] for name in ("id", "request_id", "name") if name in last))


def _answer(response: httpx.Response, at: str) -> Json:
    if response.is_success and not response.content:
        return {}
    try:
        told = response.json()
    except ValueError:
        told = None
    if not isinstance(told, dict):
        message = f"{at} answered with status {response.status_code} and no JSON object: it is no flatfee gateway."
        raise Unreachable(message)
    if not response.is_success:
        raise Refused(response.status_code, told)
    return told
