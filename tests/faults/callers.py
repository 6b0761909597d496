"""The callers: our client, openai-python and a raw socket. Each asks once and returns what it heard, in the same words.

``Heard.whole`` is what the caller believes. Whether it may believe that, the judge says.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import openai

import flatfee

HANGS: Final = 20.0
"""Seconds after which a caller that has heard no end was left hanging."""
_ANY_LINE_END: Final = re.compile(rb"\r\n|\r")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request: where, with which key, and what."""

    url: str
    key: str
    body: Mapping[str, Any]

    @property
    def stream(self) -> bool:
        return self.body.get("stream") is True


@dataclass(slots=True)
class Heard:
    """What one caller heard. ``texts`` and ``finishes`` are by choice, ``tools`` by index.

    ``error`` is the class of the exception, ``code`` and ``status`` what it told. ``done`` is whether
    ``[DONE]`` came and ``cut`` whether the bytes ended before the response did; only a socket knows.
    """

    caller: str
    whole: bool = False
    texts: dict[int, str] = field(default_factory=dict)
    tools: dict[int, list[str]] = field(default_factory=dict)
    finishes: dict[int, str] = field(default_factory=dict)
    ids: set[tuple[str, int]] = field(default_factory=set)
    roles: int = 0
    status: int | None = None
    code: str | None = None
    error: str | None = None
    request_id: str | None = None
    receipt: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    done: bool | None = None
    cut: bool | None = None
    odd: list[str] = field(default_factory=list)
    at: float = 0.0

    def take(self, part: Mapping[str, Any]) -> None:
        """Take a completion, or an event of one."""
        if part.get("id") and part.get("created"):
            self.ids.add((part["id"], part["created"]))
        self.receipt = part.get("flatfee") or self.receipt
        for choice in part.get("choices") or ():
            self._take_choice(choice["index"], choice)

    def _take_choice(self, index: int, choice: Mapping[str, Any]) -> None:
        said = choice.get("message") or choice.get("delta") or {}
        self.roles += bool(said.get("role"))
        self.texts[index] = self.texts.get(index, "") + (said.get("content") or "")
        for number, call in enumerate(said.get("tool_calls") or ()):
            function = call.get("function") or {}
            known = self.tools.setdefault(call.get("index") or number, ["", ""])
            known[0] += function.get("name") or ""
            known[1] += function.get("arguments") or ""
        if choice.get("finish_reason"):
            self.finishes[index] = choice["finish_reason"]


Caller = Callable[[Ask], Awaitable[Heard]]


async def ours(ask: Ask) -> Heard:
    """Ask with ``flatfee.AsyncClient``."""
    heard = Heard("flatfee")
    async with flatfee.AsyncClient(api_key=ask.key, base_url=ask.url, max_retries=0) as client:
        try:
            answer = await client.chat.completions.create(**ask.body)
            if isinstance(answer, flatfee.AsyncStream):
                heard.headers = answer.response.headers
                async with answer:
                    async for chunk in answer:
                        heard.take(chunk.model_dump(warnings=False))
            else:
                heard.take(answer.model_dump(warnings=False))
            heard.whole = True
        except flatfee.APIError as error:
            _our_error(heard, error)
    return heard


async def ours_blocking(ask: Ask) -> Heard:
    """Ask with ``flatfee.Client``, in a thread."""

    def asked() -> Heard:
        heard = Heard("flatfee, blocking")
        with flatfee.Client(api_key=ask.key, base_url=ask.url, max_retries=0, timeout=HANGS) as client:
            try:
                answer = client.chat.completions.create(**ask.body)
                for chunk in answer if isinstance(answer, flatfee.Stream) else [answer]:
                    heard.take(chunk.model_dump(warnings=False))
                heard.whole = True
            except flatfee.APIError as error:
                _our_error(heard, error)
        return heard

    return await asyncio.to_thread(asked)


def _our_error(heard: Heard, error: flatfee.APIError) -> None:
    heard.error, heard.code = type(error).__name__, error.code
    heard.request_id = error.request_id
    if error.receipt is not None:
        heard.receipt = error.receipt.model_dump(mode="json", exclude_unset=True)
    if isinstance(error, flatfee.APIStatusError):
        heard.status = error.status_code


async def theirs(ask: Ask) -> Heard:
    """Ask with ``openai.AsyncOpenAI``. It takes the end of the bytes for the end of the answer."""
    heard = Heard("openai-python")
    async with openai.AsyncOpenAI(api_key=ask.key, base_url=ask.url, max_retries=0) as client:
        try:
            answer: Any = await client.chat.completions.create(**ask.body)
            if ask.stream:
                heard.headers = answer.response.headers
                heard.request_id = heard.headers.get("x-flatfee-request-id")
                async for chunk in answer:
                    heard.take(chunk.model_dump(warnings=False))
            else:
                heard.take(answer.model_dump(warnings=False))
            heard.whole = True
        except openai.APIError as error:
            heard.error, heard.code = type(error).__name__, error.code
            if isinstance(error, openai.APIStatusError):
                heard.status, heard.headers = error.status_code, error.response.headers
                heard.request_id = heard.headers.get("x-flatfee-request-id")
                heard.receipt = error.response.json().get("flatfee")
    return heard


async def raw(ask: Ask) -> Heard:
    """Ask over a socket, and read to the end of the bytes."""
    heard = Heard("raw socket")
    body = json.dumps(ask.body).encode()
    host, _, path = ask.url.removeprefix("http://").partition("/")
    head = (
        f"POST /{path}/chat/completions HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {ask.key}\r\n"
        f"content-type: application/json\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    address, _, port = host.partition(":")
    reader, writer = await asyncio.open_connection(address, int(port))
    try:
        writer.write(head.encode() + body)
        received, heard.cut = await _to_the_end(reader)
    finally:
        writer.close()
    first, _, rest = received.partition(b"\r\n\r\n")
    lines = first.decode("latin-1").split("\r\n")
    heard.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    heard.status = int(lines[0].split()[1])
    heard.request_id = heard.headers.get("x-flatfee-request-id")
    if heard.headers.get("transfer-encoding") == "chunked":
        rest, whole = _unchunked(rest)
    else:
        whole = len(rest) == int(heard.headers.get("content-length", -1))
    heard.cut = heard.cut or not whole
    if heard.headers.get("content-type", "").startswith("text/event-stream"):
        _take_events(heard, rest)
    else:
        _take_plain(heard, rest)
    return heard


async def _to_the_end(reader: asyncio.StreamReader) -> tuple[bytes, bool]:
    parts: list[bytes] = []
    try:
        while part := await reader.read(1 << 20):
            parts.append(part)
    except ConnectionError:
        return b"".join(parts), True
    return b"".join(parts), False


def _unchunked(body: bytes) -> tuple[bytes, bool]:
    """Return what chunks hold, and whether the last one came."""
    parts: list[bytes] = []
    at = 0
    while (end := body.find(b"\r\n", at)) >= 0:
        size = int(body[at:end], 16)
        if size == 0:
            return b"".join(parts), body[end:] == b"\r\n\r\n"
        parts.append(body[end + 2 : end + 2 + size])
        at = end + 4 + size
    return b"".join(parts), False


def _take_plain(heard: Heard, body: bytes) -> None:
    try:
        found = json.loads(body)
    except ValueError:
        heard.odd.append("the body is not JSON")
        return
    _take_error(heard, found)
    if heard.code is None and heard.error is None:
        heard.take(found)
        heard.whole = heard.status == 200 and not heard.cut


def _take_events(heard: Heard, body: bytes) -> None:
    heard.done = False
    text = _ANY_LINE_END.sub(b"\n", body.removeprefix(b"\xef\xbb\xbf"))
    *events, rest = text.split(b"\n\n")
    if rest.strip():
        heard.odd.append("the last event has no end")
    for event in events:
        lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
        if not lines:
            continue
        if heard.done or heard.error:
            heard.odd.append("something came after the end")
        data = b"\n".join(lines)
        if data == b"[DONE]":
            heard.done = True
            continue
        try:
            found = json.loads(data)
        except ValueError:
            heard.odd.append("an event is not JSON")
            continue
        _take_error(heard, found)
        heard.take(found)
        if not heard.error and "choices" not in found:
            heard.odd.append(f"an event that is no part of an answer: {sorted(found)}")
    heard.whole = heard.done and not heard.error


def _take_error(heard: Heard, found: Mapping[str, Any]) -> None:
    error = found.get("error")
    if error:
        heard.error = "error"
        heard.code = error.get("code")
        heard.receipt = found.get("flatfee")


CALLERS: Final[Mapping[str, Caller]] = {"flatfee": ours, "openai": theirs, "raw": raw}
ALL_CALLERS: Final[Mapping[str, Caller]] = {**CALLERS, "blocking": ours_blocking}


async def heard_by(caller: Caller, ask: Ask) -> Heard | None:
    """Return what the caller heard; ``None`` if it was left hanging."""
    try:
        async with asyncio.timeout(HANGS):
            heard = await caller(ask)
    except TimeoutError:
        return None
    heard.at = asyncio.get_running_loop().time()
    heard.texts = {index: _made_whole(text) for index, text in heard.texts.items()}
    return heard


def _made_whole(text: str) -> str:
    """Put halves of characters together that came in two events."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
