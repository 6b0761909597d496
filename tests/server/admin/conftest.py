"""A gateway with an administrator at it; every answer of the admin API is held against its OpenAPI document."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest
from tests.server.fakes import KEY, make_settings
from tests.server.fakes_gateway import Rig, running

from flatfee.server.admin.openapi import document
from flatfee.server.admin.table import ENDPOINTS, ROOT
from flatfee.server.keys import KeyKind, digest, new_key
from flatfee.server.settings import Settings
from flatfee.server.store.account_commands import AddAccount, AddProject
from flatfee.server.store.key_commands import AddKey
from flatfee.server.store.memory import MemoryStore
from flatfee.server.store.records import NewKey

OPERATORS_KEY = "canary-key-of-the-operator-0123456789"
DOCUMENT: dict[str, Any] = json.loads(document(ENDPOINTS, ROOT))
START = 1_793_534_400.0  # 2026-11-01T12:00:00Z


class Clock:
    """A clock that stands still until a test advances it."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


def with_operators_key(settings: Settings) -> Settings:
    return settings.model_copy(update={"server": settings.server.with_admin_key(OPERATORS_KEY)})


class Office:
    """An administrator's desk: requests with the operator's key, or with another."""

    def __init__(self, rig: Rig, clock: Clock) -> None:
        self.rig = rig
        self.clock = clock
        self.store = rig.gateway.store

    async def send(
        self, method: str, path: str, body: Any = None, *, key: str | None = OPERATORS_KEY, raw: bytes | None = None
    ) -> httpx.Response:
        """Send a request; the answer must be what the document says."""
        content = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        headers = {"authorization": f"Bearer {key}" if key is not None else ""}
        response = await self.rig.client.request(method, ROOT + path, content=content, headers=headers)
        check_answer(method, path, response)
        return response

    async def get(self, path: str, **more: Any) -> Any:
        return await self._done("GET", path, None, **more)

    async def post(self, path: str, body: Any = None, **more: Any) -> Any:
        return await self._done("POST", path, body, **more)

    async def patch(self, path: str, body: Any, **more: Any) -> Any:
        return await self._done("PATCH", path, body, **more)

    async def delete(self, path: str, **more: Any) -> Any:
        return await self._done("DELETE", path, None, **more)

    async def _done(self, method: str, path: str, body: Any, **more: Any) -> Any:
        response = await self.send(method, path, body, **more)
        assert response.is_success, response.text
        return response.json()

    async def refused(self, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, str, str | None, str]:
        """Return status, code, param and message of an error."""
        response = await self.send(method, path, body, **more)
        assert not response.is_success, response.text
        error = response.json()["error"]
        return response.status_code, error["code"], error["param"], error["message"]

    async def log(self, **more: Any) -> list[tuple[str, str, str]]:
        """Return actor, action and subject of every entry that the file did not make, oldest first."""
        entries = (await self.get("/audit?limit=100", **more))["data"]
        found = [(entry["actor"], entry["action"], entry["subject"]) for entry in reversed(entries)]
        return [entry for entry in found if entry[0] not in {"file", "setup"}]

    async def key(self, kind: KeyKind, account: str | None = None, project: str | None = None, **more: Any) -> str:
        """Put a key into the store; return its secret."""
        secret = new_key(kind)
        new = NewKey(digest=digest(secret), name="made", kind=kind, last4=secret[-4:], **more)
        await self.store.administer("setup", AddKey(key=new, account=account, project=project))
        return secret

    async def ask(self, key: str, model: str = "premium") -> int:
        """Send a completion; return its status."""
        return (await self.rig.ask({"authorization": f"Bearer {key}"}, model=model)).status_code


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    """The file's account ``acme`` with the projects ``ci`` and ``docs``, and the account ``beta`` of nobody's file."""
    clock = Clock()
    settings = with_operators_key(make_settings(aliases={"gpt": "premium", "claude-*": "premium"}))
    async with running(settings, store=MemoryStore(clock)) as rig:
        office = Office(rig, clock)
        await office.store.administer("setup", AddAccount(name="beta", plan="pro"))
        await office.store.administer("setup", AddProject(account="beta", name="web"))
        yield office


def operation_of(method: str, path: str) -> dict[str, Any] | None:
    """Return what the document says of a request."""
    bare = ROOT + path.partition("?")[0]
    for template, operations in DOCUMENT["paths"].items():
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), bare) and method.lower() in operations:
            found: dict[str, Any] = operations[method.lower()]
            return found
    return None


def check_answer(method: str, path: str, response: httpx.Response) -> None:
    operation = operation_of(method, path)
    if operation is None:
        assert response.status_code == 404
        return
    told = operation["responses"][str(response.status_code)]
    problems = list(mistakes(response.json(), told["content"]["application/json"]["schema"], DOCUMENT))
    assert problems == []


TYPES: Mapping[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


def mistakes(value: Any, schema: dict[str, Any], root: dict[str, Any], at: str = "$") -> list[str]:
    """Return where a value is not what a schema says: of JSON Schema, as much as the document uses."""
    if "$ref" in schema:
        return mistakes(value, resolve(schema["$ref"], root), root, at)
    if "anyOf" in schema:
        return [] if any(not mistakes(value, kind, root, at) for kind in schema["anyOf"]) else [f"{at}: no kind fits"]
    if "const" in schema and value != schema["const"]:
        return [f"{at}: not {schema['const']!r}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{at}: not one of {schema['enum']}"]
    kind = schema.get("type")
    if kind is not None and (not isinstance(value, TYPES[kind]) or (isinstance(value, bool) and kind != "boolean")):
        return [f"{at}: not of type {kind}"]
    if isinstance(value, dict):
        return _members(value, schema, root, at)
    if isinstance(value, list):
        items = schema.get("items", {})
        return [text for index, item in enumerate(value) for text in mistakes(item, items, root, f"{at}[{index}]")]
    return []


def _members(value: dict[str, Any], schema: dict[str, Any], root: dict[str, Any], at: str) -> list[str]:
    found = [f"{at}.{name}: is missing" for name in schema.get("required", []) if name not in value]
    known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    for name, member in value.items():
        if name in known:
            found += mistakes(member, known[name], root, f"{at}.{name}")
        elif others is False:
            found.append(f"{at}.{name}: is unknown")
        elif isinstance(others, dict):
            found += mistakes(member, others, root, f"{at}.{name}")
    return found


def resolve(reference: str, root: dict[str, Any]) -> dict[str, Any]:
    found: Any = root
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    assert isinstance(found, dict)
    return found


PROJECT_KEY = KEY
