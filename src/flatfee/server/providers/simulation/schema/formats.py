"""What texts of a known ``format`` look like: the names are JSON Schema's, OpenAPI's and pydantic's. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

_DATE: Final = r"(19|20)\d\d-(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])"
_TIME: Final = r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d"
_ZONE: Final = r"(Z|[+-](0\d|1[0-3]):[0-5]\d)"
_LABEL: Final = r"[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?"
_HOST: Final = rf"{_LABEL}(\.{_LABEL}){{0,4}}\.[a-z]{{2,10}}"
_BYTE: Final = r"(\d|[1-9]\d|1\d\d|2[0-4]\d|25[0-5])"
_IPV4: Final = rf"{_BYTE}\.{_BYTE}\.{_BYTE}\.{_BYTE}"
_IPV6: Final = r"([0-9a-f]{1,4}:){7}[0-9a-f]{1,4}"
_PATH: Final = r"(/[A-Za-z0-9._~-]*)*"


def _day(index: int) -> str:
    return f"{2024 + index // 336}-{1 + index // 28 % 12:02}-{1 + index % 28:02}"


def _minute(index: int) -> str:
    return f"{index // 60 % 24:02}:{index % 60:02}:00"


def _uuid(version: int) -> Callable[[int], str]:
    return lambda index: f"00000000-0000-{version}000-8000-{index:012x}"


def _again(sample: str, separator: str = "") -> Callable[[int], str]:
    """Number a sample from its second on."""
    return lambda index: f"{sample}{separator}{index + 1}" if index else sample


def _host(index: int) -> str:
    return f"{_again('example')(index)}.com"


SAMPLES: Final[Mapping[str, Callable[[int], str]]] = {
    "date-time": lambda index: f"{_day(index)}T00:00:00Z",
    "date": _day,
    "time": lambda index: f"{_minute(index)}Z",
    "duration": lambda index: f"P{index + 1}D",
    **dict.fromkeys(("email", "idn-email"), lambda index: f"{_again('user')(index)}@example.com"),
    "name-email": lambda index: f"User <{_again('user')(index)}@example.com>",
    **dict.fromkeys(("hostname", "idn-hostname"), _host),
    "ipv4": lambda index: f"192.0.{index // 256 % 256}.{index % 256}",
    **dict.fromkeys(("ipvanyaddress", "ipvanyinterface"), lambda index: f"192.0.2.{index % 256}"),
    "ipv6": lambda index: f"2001:db8::{index + 1:x}",
    **dict.fromkeys(("ipv4network", "ipv4interface", "ipvanynetwork"), lambda index: f"192.0.{index % 256}.0/24"),
    **dict.fromkeys(("ipv6network", "ipv6interface"), lambda index: f"2001:db8:{index:x}::/48"),
    **dict.fromkeys(("uri", "url", "iri", "multi-host-uri"), lambda index: f"https://{_host(index)}/"),
    **dict.fromkeys(("uri-reference", "iri-reference", "uri-template"), _again("/text")),
    **dict.fromkeys(("uuid", "uuid4"), _uuid(4)),
    **{f"uuid{version}": _uuid(version) for version in (1, 3, 5, 6, 7, 8)},
    "json-pointer": _again("/text"),
    "relative-json-pointer": str,
    "regex": _again("text"),
    **dict.fromkeys(("byte", "base64", "base64url"), lambda index: "dGV4dA==" if not index else f"{index:04d}"),
    **dict.fromkeys(("decimal", "int32", "int64", "float", "double"), str),
    "color": lambda index: f"#{index:06x}",
    "directory-path": lambda index: "/" * (index + 1),
}
"""The samples of a format, by their index from 0."""

PATTERNS: Final[Mapping[str, str]] = {
    "date-time": f"^{_DATE}T{_TIME}{_ZONE}$",
    "date": f"^{_DATE}$",
    "time": f"^{_TIME}{_ZONE}$",
    "duration": r"^P(\d{1,4}D|T\d{1,4}[HMS])$",
    **dict.fromkeys(("email", "idn-email"), rf"^[a-z0-9]+([.+_-][a-z0-9]+)*@{_HOST}$"),
    **dict.fromkeys(("hostname", "idn-hostname"), f"^{_HOST}$"),
    "ipv4": f"^{_IPV4}$",
    "ipv6": f"^{_IPV6}$",
    **dict.fromkeys(
        ("uri", "url", "iri"), rf"^[a-z][a-z0-9+]{{1,9}}://{_HOST}(:[1-9]\d{{0,3}})?{_PATH}(\?[a-z0-9=&]*)?$"
    ),
    **dict.fromkeys(("uri-reference", "iri-reference", "json-pointer"), f"^{_PATH}$"),
    **dict.fromkeys(("uuid", "uuid4"), "^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"),
}
"""Where no sample suits a schema's own pattern or length: the format as a pattern, narrower than its standard."""
