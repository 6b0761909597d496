"""The clients under measurement, each driven the way its own documentation shows.

A row is all that a client needs: how to make it, how to ask once, how to read one stream. Each
returns what it read, so that a wrong answer is noticed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

KEY: Final = "bench-key-that-no-gateway-would-accept-0123456789"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One client. ``make`` imports and constructs it for a base URL that ends in ``/v1``."""

    make: Callable[[str], Any]
    ask: Callable[[Any, dict[str, Any]], str | None]
    stream: Callable[[Any, dict[str, Any]], Iterator[str | None]]


def _make_httpx(base_url: str) -> Any:
    import httpx

    return httpx.Client(base_url=base_url, headers={"authorization": f"Bearer {KEY}"})


def _ask_httpx(client: Any, fields: dict[str, Any]) -> str | None:
    answer = client.post("/chat/completions", json=fields)
    answer.raise_for_status()
    content: str | None = json.loads(answer.content)["choices"][0]["message"]["content"]
    return content


def _stream_httpx(client: Any, fields: dict[str, Any]) -> Iterator[str | None]:
    with client.stream("POST", "/chat/completions", json=fields) as answer:
        answer.raise_for_status()
        for line in answer.iter_lines():
            if line.startswith("data: ") and line != "data: [DONE]":
                choices = json.loads(line[6:])["choices"]
                yield choices[0]["delta"].get("content") if choices else None


def _make_flatfee(base_url: str) -> Any:
    from flatfee import Client

    return Client(api_key=KEY, base_url=base_url)


def _make_openai(base_url: str) -> Any:
    from openai import OpenAI

    return OpenAI(api_key=KEY, base_url=base_url)


def _ask_sdk(client: Any, fields: dict[str, Any]) -> str | None:
    content: str | None = client.chat.completions.create(**fields).choices[0].message.content
    return content


def _stream_sdk(client: Any, fields: dict[str, Any]) -> Iterator[str | None]:
    with client.chat.completions.create(**fields) as events:
        for event in events:
            yield event.choices[0].delta.content if event.choices else None


CONTENDERS: Final[Mapping[str, Contender]] = MappingProxyType(
    {
        "httpx + json": Contender(make=_make_httpx, ask=_ask_httpx, stream=_stream_httpx),
        "flatfee": Contender(make=_make_flatfee, ask=_ask_sdk, stream=_stream_sdk),
        "openai-python": Contender(make=_make_openai, ask=_ask_sdk, stream=_stream_sdk),
    }
)
"""Name → client. The first row is what the ratios refer to."""
