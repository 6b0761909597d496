"""The gateway itself, in memory and on virtual time, serving a month of traffic. Returns the receipts that it kept."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, Final

from tests.replays.providers import CALL, Call
from tests.replays.traffic import SHY, START, Asking
from tests.torture.virtual import Clocks, VirtualLoop

from flatfee.server.app import App
from flatfee.server.gateway import Gateway
from flatfee.server.ids import request_id
from flatfee.server.providers.base import Provider
from flatfee.server.settings import AccountSettings, KeySettings, ProjectSettings, Settings
from flatfee.server.store.book import KeptReceipt
from flatfee.server.store.memory import MemoryStore
from flatfee.server.store.memory_book import MemoryBook

CHANCE: Final = 0.5
"""Nothing is left to chance: the same in the gateway's world and in the replay's."""
KEEPS: Final = 2000
_SAYS_AFTER: Final = 5.0

Say = Callable[[str], None]


class _Book(MemoryBook):
    """A book that hands on what it keeps, and forgets it early."""

    def __init__(self) -> None:
        super().__init__(KEEPS)
        self.lines: list[bytes] = []

    def add_receipt(self, receipt: KeptReceipt) -> None:
        whose = {"account": receipt.account, "project": receipt.project}
        self.lines.append(json.dumps(whose)[:-1].encode() + b", " + receipt.json[1:])
        super().add_receipt(receipt)


class _Store(MemoryStore):
    def __init__(self, clocks: Clocks) -> None:
        super().__init__(clocks.wall, steady=clocks.steady)
        self._book = self.book = _Book()


def id_of(asking: Asking) -> str:
    """Return a request's id, in every run the same."""
    return request_id(asking.at, lambda bits: asking.number % (1 << bits))


def with_accounts(settings: Settings, plans: Mapping[str, str]) -> Settings:
    """Return settings with accounts, on the plans named; each has the projects ``ci`` and ``docs``."""
    accounts = tuple(
        AccountSettings(name=name, plan=plan, billing_day=int(name[1:]) % 28 + 1).model_copy(
            update={"projects": tuple(_project(name, project) for project in ("ci", "docs"))}
        )
        for name, plan in plans.items()
    )
    return settings.model_copy(update={"accounts": accounts})


def _project(account: str, name: str) -> ProjectSettings:
    key = KeySettings(name=name, key_env="KEY").with_secret(_secret(account, name))
    return ProjectSettings(name=name, keys=(key,))


def _secret(account: str, project: str) -> str:
    return f"key-of-{account}-{project}-0123456789-0123456789"


class _Exchange:
    """One request as the server below the gateway sees it."""

    def __init__(self, call: Call) -> None:
        self._body: bytes | None = _body(call.asking)
        self._gone = call.gone

    async def receive(self) -> MutableMapping[str, Any]:
        body, self._body = self._body, None
        if body is not None:
            return {"type": "http.request", "body": body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        del message
        if self._gone.is_set():
            raise OSError("the caller has left")


def _body(asking: Asking) -> bytes:
    said = "x" * max(1, asking.prompt * 4 - 40)
    messages = [{"role": "tool" if asking.tool_loop else "user", "content": said, "tool_call_id": "t"}]
    body: dict[str, Any] = {"model": asking.model, "messages": messages, "stream": asking.stream}
    body |= {"tools": [{"type": "function"}]} if asking.tools else {}
    body |= {"response_format": {"type": "json_schema"}} if asking.schema else {}
    body |= {"reasoning_effort": asking.effort} if asking.effort else {}
    body |= {"max_completion_tokens": asking.output} if asking.output else {}
    return json.dumps(body).encode()


def _headers(asking: Asking) -> list[tuple[bytes, bytes]]:
    told = {
        "host": "gateway",
        "content-type": "application/json",
        "authorization": f"Bearer {_secret(asking.account, asking.project)}",
        "x-flatfee-workflow": asking.workflow,
        "x-flatfee-task": asking.task,
        "x-flatfee-on-exhausted": asking.on_exhausted,
    }
    return [(name.encode(), value.encode()) for name, value in told.items() if value is not None]


class Stage:
    """One run of the traffic through the gateway."""

    def __init__(self, settings: Settings, say: Say = lambda text: None) -> None:
        self._settings = settings
        self._say = say
        self._loop = VirtualLoop()
        self.clocks = Clocks(self._loop.time, START)
        self.store = _Store(self.clocks)

    def run(self, askings: Sequence[Asking], provider: Provider, *, hang_up: bool) -> list[bytes]:
        """Serve everything; return the kept receipts, one line each. ``hang_up``: callers leave as they intended."""
        try:
            self._loop.run_until_complete(self._live(askings, provider, hang_up=hang_up))
        finally:
            self._loop.close()
        return sorted(self.store.book.lines, key=lambda line: json.loads(line)["request_id"])

    async def _live(self, askings: Sequence[Asking], provider: Provider, *, hang_up: bool) -> None:
        app = App(
            Gateway(
                settings=self._settings,
                store=self.store,
                providers={"fake": provider},
                monotonic=self._loop.time,
                chance=lambda: CHANCE,
                new_id=lambda _: CALL.get().request_id,
            )
        )
        running: set[asyncio.Task[None]] = set()
        said = time.monotonic()
        async with app.running():
            for asking in askings:
                await asyncio.sleep(asking.at - self.clocks.wall())
                task = asyncio.create_task(self._ask(app, asking, hang_up=hang_up))
                running.add(task)
                task.add_done_callback(running.discard)
                if time.monotonic() - said > _SAYS_AFTER:
                    said = time.monotonic()
                    self._say(f"{asking.number:,} of {len(askings):,} requests")
            await asyncio.gather(*running)

    async def _ask(self, app: App, asking: Asking, *, hang_up: bool) -> None:
        call = Call(asking, id_of(asking))
        CALL.set(call)
        if hang_up and asking.leaves is not None:
            self._loop.call_later(asking.leaves - SHY, call.gone.set)
        exchange = _Exchange(call)
        scope: dict[str, Any] = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "path": "/v1/chat/completions",
            "query_string": b"",
            "headers": _headers(asking),
        }
        await app(scope, exchange.receive, exchange.send)
