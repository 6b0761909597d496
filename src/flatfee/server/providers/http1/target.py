"""Where requests go, and all of their heads that is the same for each. Pure: nothing is sent here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlsplit

_PORTS: Final = {"http": 80, "https": 443}
_PATH: Final = "/%:@!$&'()*+,;=~-._"
_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE: Final = re.compile(r"[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A server: its name or address, its port, and whether TLS is spoken with it."""

    host: str
    port: int
    tls: bool

    @property
    def authority(self) -> str:
        """What stands in the header ``host``."""
        try:
            name = self.host.encode("idna" if not self.host.isascii() else "ascii").decode()
        except UnicodeError:
            name = self.host.encode("ascii", "replace").decode()  # no name: it will not be found
        name = f"[{name}]" if ":" in name else name
        return name if self.port == _PORTS["https" if self.tls else "http"] else f"{name}:{self.port}"


def origin_of(url: str) -> Origin:
    """Return the server of an ``http`` or ``https`` URL.

    Raises:
        ValueError: it is none.
    """
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError(f"{url!r} is not an http or https URL")
    return Origin(host=parts.hostname, port=parts.port or _PORTS[parts.scheme], tls=parts.scheme == "https")


def head_of(method: str, url: str, headers: Mapping[str, str]) -> bytes:
    """Return a request's first line and its headers, without the empty line at the end.

    Raises:
        ValueError: a header cannot be sent as it is. Its value, which may be a key, is not shown.
    """
    parts = urlsplit(url)
    path = quote(parts.path or "/", safe=_PATH)
    query = f"?{quote(parts.query, safe=_PATH + '?')}" if parts.query else ""
    for name, value in headers.items():
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError(f"header {name!r} cannot be sent: use printable ASCII, in one line")
    lines = [f"{method} {path}{query} HTTP/1.1", f"host: {origin_of(url).authority}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "".join(f"{line}\r\n" for line in lines).encode("ascii")
