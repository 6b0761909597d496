"""Rare ways out of a request: who pays, what is told, and what is left behind."""

from __future__ import annotations

import json
from collections.abc import MutableMapping
from typing import Any

import pytest
from tests.server.fakes import (
    KEY,
    FailingStore,
    ScriptedProvider,
    delta,
    error,
    make_body,
    make_settings,
    plain,
    route,
    silent,
    streamed,
    usage_event,
)
from tests.server.fakes_gateway import running

from flatfee.server.answers.stream import RelayedStream
from flatfee.server.store.records import Ticket

LONG = [{"role": "user", "content": "x" * 4000}]


async def test_a_deadline_that_passes_while_a_provider_works_leaves_the_prompt_charged() -> None:
    async with running(provider=ScriptedProvider(first=silent())) as rig:
        response = await rig.ask({"x-flatfee-deadline-ms": "50"}, messages=LONG)
        receipt = await rig.receipt(response)
    assert (response.status_code, receipt["state"]) == (504, "estimated")
    assert receipt["fair_use"]["charged"] >= 1000
    assert (receipt["lane"], receipt["reason"]) == ("premium", "requested")
    assert [attempt["outcome"] for attempt in receipt["attempts"]] == ["cancelled"]


async def test_a_single_route_that_fails_was_never_left_for_another() -> None:
    settings = make_settings(routes=[route("only")])
    async with running(settings, ScriptedProvider(only=error(401))) as rig:
        response = await rig.ask()
        receipt = await rig.receipt(response)
    assert response.json()["error"]["code"] == "provider_unavailable"
    assert (receipt["lane"], receipt["reason"], receipt["state"]) == ("premium", "requested", "refused")


async def test_the_wait_for_a_single_route_is_the_one_its_provider_asked_for() -> None:
    settings = make_settings(routes=[route("only")])
    async with running(settings, ScriptedProvider(only=error(429, retry_after="30"))) as rig:
        response = await rig.ask()
    assert response.headers["retry-after"] == "30"


@pytest.mark.parametrize("content", ["5", "true", "null", "-1e9"])
def test_content_of_a_strange_type_never_counts_backwards(content: str) -> None:
    relayed = RelayedStream(include_usage=False)
    relayed.feed(b'data: {"choices":[{"index":0,"delta":{"content":%s}}]}\n\n' % content.encode())
    assert relayed.delivered == 0


def test_a_number_of_tokens_that_cannot_be_is_not_believed() -> None:
    relayed = RelayedStream(include_usage=False)
    relayed.feed(usage_event(10**12, 1))
    assert relayed.usage is None


async def test_functions_are_tools_too() -> None:
    settings = make_settings(routes=[route("first"), route("spare", tier="economy")])
    async with running(settings, ScriptedProvider(first=plain(), spare=plain())) as rig:
        small = await rig.ask(model="auto", max_tokens=5)
        calling = await rig.ask(model="auto", max_tokens=5, functions=[{"name": "f"}])
    assert (small.headers["x-flatfee-reason"], calling.headers["x-flatfee-reason"]) == ("small_task", "default")


async def test_a_context_that_premium_cannot_hold_is_the_reason_for_economy() -> None:
    settings = make_settings(routes=[route("first", context_tokens=100), route("large", tier="economy")])
    async with running(settings, ScriptedProvider(large=plain())) as rig:
        response = await rig.ask({"x-flatfee-task": "plan"}, model="auto", messages=LONG)
    assert (response.headers["x-flatfee-lane"], response.headers["x-flatfee-reason"]) == ("budget", "context_size")


async def test_a_dry_run_tells_its_lane_and_the_account_in_headers() -> None:
    async with running() as rig:
        response = await rig.client.post("/v1/route", json={"model": "premium", "messages": LONG})
    assert (response.headers["x-flatfee-lane"], response.headers["x-flatfee-reason"]) == ("premium", "requested")
    assert int(response.headers["x-flatfee-fair-use-remaining"]) > 0


async def test_a_header_of_ours_is_sent_once_or_refused() -> None:
    async with running() as rig:
        request = rig.client.build_request("GET", "/v1/usage")
        request.headers = type(request.headers)(
            [*request.headers.multi_items(), ("x-flatfee-workflow", "a"), ("x-flatfee-workflow", "b")]
        )
        response = await rig.client.send(request)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "x-flatfee-workflow"


async def test_a_spent_continuation_is_named_as_such() -> None:
    settings = make_settings(
        routes=[route("first"), route("spare", tier="economy")], fair_use=10, continuation_limit=20
    )
    async with running(settings, ScriptedProvider(first=plain(), spare=plain())) as rig:
        response = await rig.ask(model="premium", messages=LONG)
    assert response.status_code == 402
    assert "continuation's 20 units" in response.json()["error"]["message"]


async def test_a_caller_that_leaves_at_the_last_bytes_pays_what_the_provider_told() -> None:
    pieces = (delta("x" * 4000), delta(finish="stop"), usage_event(10, 5))
    body = json.dumps(make_body(stream=True)).encode()
    headers = [(b"host", b"a"), (b"authorization", b"Bearer " + KEY.encode())]
    told: dict[bytes, bytes] = {}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        told.update(message.get("headers", ()))
        if not message.get("more_body", True):
            raise OSError("gone")

    async with running(provider=ScriptedProvider(first=streamed(*pieces))) as rig:
        scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": "/v1/chat/completions"}
        await rig.app({**scope, "headers": headers, "query_string": b""}, receive, send)
        request_id = told[b"x-flatfee-request-id"].decode()
        receipt = (await rig.client.get(f"/v1/receipts/{request_id}")).json()
        usage = await rig.usage()
    assert (receipt["state"], receipt["usage"]["completion_tokens"]) == ("settled", 5)
    assert (usage["fair_use"]["pending"], usage["workflows"]["active"]) == (0, 0)


class DeafStore(FailingStore):
    """It goes down right after the mark of a dispatch was written, and before it could say so."""

    async def dispatch(self, ticket: Ticket) -> None:
        await super().dispatch(ticket)
        self.down = {"dispatch", "settle"}
        self._check("dispatch")


async def test_a_request_that_may_be_charged_later_does_not_say_that_nothing_was_consumed() -> None:
    """Its lease runs out, and then the mark in the ledger says to charge the estimate."""
    async with running(store=DeafStore()) as rig:
        response = await rig.ask()
    assert response.json()["error"]["code"] == "store_unavailable"
    assert response.json()["flatfee"]["state"] == "estimated"
