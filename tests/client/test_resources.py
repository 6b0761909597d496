"""Models, receipts, usage and workflows: one line per call."""

from typing import Any

import httpx
import pytest

from flatfee import APIResponseValidationError, ConfigurationError, Lane, NotFoundError

USAGE = {
    "object": "usage",
    "account": "acme",
    "billing": "active",
    "window": {"start": "2026-11-01T00:00:00Z", "end": "2026-12-01T00:00:00Z"},
    "fair_use": {"unit": "token", "limit": 10, "used": 4, "pending": 0, "remaining": 6},
    "continuation": {"limit": None, "used": 0},
    "workflows": {"active": 1, "limit": 4},
    "new_field": 1,
}


def page(*items: Any, more: Any = False) -> Any:
    body = {"object": "list", "data": list(items), "has_more": more}
    return httpx.Response(200, json=body, headers={"x-request-id": "req_7"})


async def test_models_are_listed_and_retrieved(driver: Any) -> None:
    able = ["tools", "telepathy"]
    model = {"id": "auto", "object": "model", "tier": "ultra", "context_tokens": 400000, "capabilities": able}
    d = driver(lambda r: httpx.Response(200, json=model) if r.url.path.endswith("/auto") else page(model))
    listed = await d.wait(d.client.models.list())
    assert [(m.id, m.capabilities) for m in listed.data] == [("auto", able)]
    assert listed.has_more is False
    assert listed._request_id == "req_7"
    assert (await d.wait(d.client.models.retrieve("auto"))).tier == "ultra"
    assert [r.url.path for r in d.requests] == ["/v1/models", "/v1/models/auto"]
    assert [m.id for m in await d.all(d.client.models.list(timeout=1))] == ["auto"]


async def test_usage_tells_what_is_left(driver: Any) -> None:
    d = driver(lambda _: httpx.Response(200, json=USAGE))
    usage = await d.wait(d.client.usage.retrieve())
    assert (usage.fair_use.remaining, usage.continuation.limit, usage.window.end.month) == (6, None, 12)
    assert usage.model_extra == {"new_field": 1}
    assert usage._request_id is None


async def test_a_receipt_is_retrieved_by_its_request(driver: Any) -> None:
    d = driver(lambda _: httpx.Response(200, json={"request_id": "req_5", "lane": "budget"}))
    assert (await d.wait(d.client.receipts.retrieve("req_5"))).lane is Lane.BUDGET
    assert d.requests[0].url.path == "/v1/receipts/req_5"


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (httpx.Response(200, text="no"), APIResponseValidationError),
        (httpx.Response(200, json={"error": {"message": "x", "code": "not_found"}}), NotFoundError),
    ],
)
async def test_a_receipt_that_is_none_is_an_error(driver: Any, reply: Any, kind: Any) -> None:
    d = driver(reply)
    with pytest.raises(kind):
        await d.wait(d.client.receipts.retrieve("req_5"))


async def test_receipts_are_iterated_over_all_pages(driver: Any) -> None:
    def handle(request: Any) -> Any:
        after = request.url.params.get("after")
        return (
            page({"request_id": "r3"}) if after == "r2" else page({"request_id": "r1"}, {"request_id": "r2"}, more=True)
        )

    d = driver(handle)
    found = await d.all(d.client.receipts.list(workflow="run-42", lane=Lane.PREMIUM, limit=2))
    assert [receipt.request_id for receipt in found] == ["r1", "r2", "r3"]
    assert [dict(r.url.params) for r in d.requests] == [
        {"workflow": "run-42", "lane": "premium", "limit": "2"},
        {"workflow": "run-42", "lane": "premium", "limit": "2", "after": "r2"},
    ]


async def test_pages_may_be_turned_by_hand(driver: Any) -> None:
    replies = [page({"request_id": "r1"}, more=True), page({"request_id": "r2"})]
    d = driver(lambda _: replies.pop(0))
    first = await d.wait(d.client.receipts.list())
    second = await d.wait(first.next_page())
    assert (first.has_more, second.has_more) == (True, False)
    assert [receipt.request_id for receipt in second.data] == ["r2"]
    assert await d.wait(second.next_page()) is None


@pytest.mark.parametrize("items", [[], [{"lane": "premium"}]])
async def test_a_page_that_names_no_next_one_is_the_last(driver: Any, items: Any) -> None:
    d = driver(lambda _: page(*items, more=True))
    assert len(await d.all(d.client.receipts.list())) == len(items)
    assert len(d.requests) == 1


async def test_workflows_are_listed_and_released(driver: Any) -> None:
    d = driver(lambda r: httpx.Response(204) if r.method == "DELETE" else page({"id": "run-42", "in_flight": 1}))
    assert [w.in_flight for w in await d.all(d.client.workflows.list())] == [1]
    assert await d.wait(d.client.workflows.release("run-42")) is None
    assert (d.requests[1].method, d.requests[1].url.path) == ("DELETE", "/v1/workflows/run-42")


async def test_releasing_what_holds_no_slot_is_not_found(driver: Any, refuse: Any) -> None:
    d = driver(refuse("not_found"))
    with pytest.raises(NotFoundError):
        await d.wait(d.client.workflows.release("run-42"))
    for climbs in ("a/b", ".", ".."):
        with pytest.raises(ConfigurationError, match="workflow is"):
            await d.wait(d.client.workflows.release(climbs))
    assert len(d.requests) == 1


async def test_a_workflow_id_is_one_segment_of_the_path(driver: Any) -> None:
    d = driver(lambda _: httpx.Response(204))
    await d.wait(d.client.workflows.release("a:b..c"))
    assert d.requests[0].url.raw_path == b"/v1/workflows/a%3Ab..c"


@pytest.mark.parametrize(
    "call",
    [
        lambda c, **o: c.models.list(**o),
        lambda c, **o: c.models.retrieve("auto", **o),
        lambda c, **o: c.receipts.list(**o),
        lambda c, **o: c.receipts.retrieve("req_1", **o),
        lambda c, **o: c.usage.retrieve(**o),
        lambda c, **o: c.workflows.list(**o),
        lambda c, **o: c.workflows.release("run-42", **o),
    ],
)
async def test_an_argument_that_has_nowhere_to_go_is_an_error(driver: Any, call: Any) -> None:
    d = driver(lambda _: page())
    with pytest.raises(TypeError, match="no argument 'limitt'; it takes extra_headers, extra_query, timeout"):
        await d.wait(call(d.client, limitt=1))
    assert d.requests == []
