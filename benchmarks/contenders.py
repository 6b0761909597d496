"""The clients under measurement, each driven the way its own documentation shows.

A row is all that a client needs: how to make it, how to ask once, how to read one stream. Each
returns what it read, so that a wrong answer is noticed. Imports nothing but the standard library
until a client is made: whoever measures it starts from there.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

KEY: Final = "bench-key-that-no-gateway-would-accept-0123456789"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One client.

    ``module`` is what its users import, ``distribution`` what they install. ``make`` and ``make_async``
    construct it for a base URL that ends in ``/v1``.
    """

    module: str
    distribution: str
    make: Callable[[str], Any]
    ask: Callable[[Any, dict[str, Any]], str | None]
    stream: Callable[[Any, dict[str, Any]], Iterator[str | None]]
    make_async: Callable[[str], Any]
    astream: Callable[[Any, dict[str, Any]], AsyncIterator[str | None]]


def _raw(library: str) -> Contender:
    """Return the row of an HTTP library by itself."""

    def make(base_url: str, kind: str = "Client") -> Any:
        http = __import__(library)
        limits = http.Limits(max_connections=1000, max_keepalive_connections=100)
        headers = {"authorization": f"Bearer {KEY}"}
        return getattr(http, kind)(base_url=base_url, headers=headers, limits=limits, timeout=600)

    return Contender(
        module=library,
        distribution=library,
        make=make,
        ask=_ask_raw,
        stream=_stream_raw,
        make_async=lambda base_url: make(base_url, "AsyncClient"),
        astream=_astream_raw,
    )


def _ask_raw(client: Any, fields: dict[str, Any]) -> str | None:
    answer = client.post("/chat/completions", json=fields)
    answer.raise_for_status()
    content: str | None = json.loads(answer.content)["choices"][0]["message"]["content"]
    return content


def _stream_raw(client: Any, fields: dict[str, Any]) -> Iterator[str | None]:
    with client.stream("POST", "/chat/completions", json=fields) as answer:
        answer.raise_for_status()
        for line in answer.iter_lines():
            if line.startswith("data: ") and line != "data: [DONE]":
                choices = json.loads(line[6:])["choices"]
                yield choices[0]["delta"].get("content") if choices else None


async def _astream_raw(client: Any, fields: dict[str, Any]) -> AsyncIterator[str | None]:
    async with client.stream("POST", "/chat/completions", json=fields) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if line.startswith("data: ") and line != "data: [DONE]":
                choices = json.loads(line[6:])["choices"]
                yield choices[0]["delta"].get("content") if choices else None


def _make_flatfee(base_url: str) -> Any:
    from flatfee import Client

    return Client(api_key=KEY, base_url=base_url)


def _make_async_flatfee(base_url: str) -> Any:
    from flatfee import AsyncClient

    return AsyncClient(api_key=KEY, base_url=base_url)


def _make_flatfee_on_httpx2(base_url: str) -> Any:
    import httpx2

    from flatfee import Client

    return Client(api_key=KEY, base_url=base_url, http_client=httpx2.Client())


def _make_async_flatfee_on_httpx2(base_url: str) -> Any:
    import httpx2

    from flatfee import AsyncClient

    limits = httpx2.Limits(max_connections=1000, max_keepalive_connections=100)
    return AsyncClient(api_key=KEY, base_url=base_url, http_client=httpx2.AsyncClient(limits=limits))


def _make_openai(base_url: str) -> Any:
    from openai import OpenAI

    return OpenAI(api_key=KEY, base_url=base_url)


def _make_async_openai(base_url: str) -> Any:
    from openai import AsyncOpenAI

    return AsyncOpenAI(api_key=KEY, base_url=base_url)


def _sdk(
    module: str, make: Callable[[str], Any], make_async: Callable[[str], Any], *, distribution: str = ""
) -> Contender:
    """Return the row of a client with openai-python's surface."""
    return Contender(
        module=module,
        distribution=distribution or module,
        make=make,
        ask=_ask_sdk,
        stream=_stream_sdk,
        make_async=make_async,
        astream=_astream_sdk,
    )


def _ask_sdk(client: Any, fields: dict[str, Any]) -> str | None:
    content: str | None = client.chat.completions.create(**fields).choices[0].message.content
    return content


def _stream_sdk(client: Any, fields: dict[str, Any]) -> Iterator[str | None]:
    with client.chat.completions.create(**fields) as events:
        for event in events:
            yield event.choices[0].delta.content if event.choices else None


async def _astream_sdk(client: Any, fields: dict[str, Any]) -> AsyncIterator[str | None]:
    async with await client.chat.completions.create(**fields) as events:
        async for event in events:
            yield event.choices[0].delta.content if event.choices else None


CONTENDERS: Final[Mapping[str, Contender]] = MappingProxyType(
    {
        "httpx + json": _raw("httpx"),
        "httpx2 + json": _raw("httpx2"),
        "flatfee": _sdk("flatfee", _make_flatfee, _make_async_flatfee),
        "flatfee on httpx2": _sdk("flatfee", _make_flatfee_on_httpx2, _make_async_flatfee_on_httpx2),
        "openai-python": _sdk("openai", _make_openai, _make_async_openai),
    }
)
"""Name → client. The first row is what the ratios refer to."""
