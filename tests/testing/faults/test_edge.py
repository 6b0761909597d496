"""What happens between the gateway and its caller: what the client gets, and what it is charged."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

import flatfee
from flatfee.errors import CODE_CLASSES
from flatfee.testing import Edge, ScriptedGateway, ScriptFailed, VirtualClock, running_gateway
from flatfee.testing.faults.between import Line
from flatfee.testing.faults.edge import EDGES
from flatfee.testing.running.exchange import Exchange
from flatfee.testing.running.loop import Traffic
from flatfee.wire import ERRORS, ErrorCode, Header

HELLO: dict[str, Any] = {"model": "premium", "messages": [{"role": "user", "content": "Hello"}]}
TEXT = "It is sunny in Lisbon, and it will be so tomorrow."
SOON = 0.15
"""Real seconds that a client under test waits."""


@pytest.fixture(scope="module")
def running() -> Iterator[ScriptedGateway]:
    with running_gateway() as gateway:
        yield gateway


@pytest.fixture
def gateway(running: ScriptedGateway) -> ScriptedGateway:
    running.reset()
    running.script(TEXT)
    return running


@pytest.fixture
def client(gateway: ScriptedGateway) -> flatfee.Client:
    return gateway.client(max_retries=0)


def receipts(client: flatfee.Client) -> list[flatfee.Receipt]:
    return list(client.receipts.list())


def used(client: flatfee.Client) -> int:
    told = client.usage.retrieve().fair_use
    assert told is not None
    return told.used or 0


def streamed(client: flatfee.Client) -> str:
    return "".join(
        chunk.choices[0].delta.content or ""
        for chunk in client.chat.completions.create(**HELLO, stream=True)
        if chunk.choices
    )


def test_a_lost_request_costs_nothing(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    gateway.script(Edge.lost())
    with pytest.raises(flatfee.APIConnectionError):
        client.chat.completions.create(**HELLO)
    assert receipts(client) == []
    assert used(client) == 0


def test_an_answer_that_is_lost_is_given_again_and_charged_once(gateway: ScriptedGateway) -> None:
    gateway.script(Edge.cut(), times=1)
    client = gateway.client(retry=flatfee.RetryPolicy(max_retries=1, first_wait=0.001))
    answer = client.chat.completions.create(**HELLO)
    assert answer.choices[0].message.content == TEXT
    (receipt,) = receipts(client)
    assert receipt.fair_use is not None
    assert used(client) == receipt.fair_use.charged
    assert [entry.ending for entry in gateway.journal.completions] == ["cut", "whole"]


@pytest.mark.parametrize("edge", [Edge.cut(after=3), Edge.cut(after_bytes=700), Edge.cut(after=100)])
def test_a_stream_that_is_cut_tells_what_came_and_what_came_is_charged(
    edge: Edge, gateway: ScriptedGateway, client: flatfee.Client
) -> None:
    gateway.script(edge)
    with pytest.raises(flatfee.APIConnectionError) as caught:
        streamed(client)
    assert caught.value.partial
    assert TEXT.startswith(caught.value.partial)
    assert caught.value.unsafe_to_replay
    gateway.journal.wait_for(1)
    (receipt,) = receipts(client)
    assert 0 < used(client) == (receipt.fair_use.charged if receipt.fair_use else None)


@pytest.mark.parametrize("edge", [Edge.cut(), Edge.cut(after=0), Edge.cut(after=2), Edge.cut(after_bytes=9)])
def test_a_plain_answer_is_cut_wherever_it_is_told(
    edge: Edge, gateway: ScriptedGateway, client: flatfee.Client
) -> None:
    gateway.script(edge)
    with pytest.raises(flatfee.APIConnectionError):
        client.chat.completions.create(**HELLO)
    gateway.journal.wait_for(1)
    assert used(client) > 0


@pytest.mark.slow
@pytest.mark.parametrize("edge", [Edge.stall(), Edge.stall(after=2)])
def test_a_stall_lasts_until_the_client_gives_up_and_time_does_not_skip(edge: Edge, gateway: ScriptedGateway) -> None:
    gateway.script(edge)
    client = gateway.client(max_retries=0, timeout=SOON)
    before = gateway.now
    with pytest.raises(flatfee.APITimeoutError):
        streamed(client)
    gateway.journal.wait_for(1)
    assert (gateway.now - before).total_seconds() < 5
    assert gateway.journal.last.ending == "left"
    assert gateway.workflows.active == ()


def test_a_stall_of_some_seconds_ends(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    gateway.script(Edge.stall(after=2, seconds=0.05))
    assert streamed(client) == TEXT


def test_a_client_that_tries_again_gets_past_a_proxys_page(gateway: ScriptedGateway) -> None:
    gateway.script(Edge.page(502), times=2)
    client = gateway.client(retry=flatfee.RetryPolicy(max_retries=2, first_wait=0.001))
    answer = client.chat.completions.create(**HELLO)
    assert [one.status for one in answer.tries] == [502, 502, 200]
    assert len(receipts(client)) == 1


@pytest.mark.parametrize("served", [False, True])
def test_a_proxys_page_tells_nothing_of_what_was_served(
    served: bool, gateway: ScriptedGateway, client: flatfee.Client
) -> None:
    gateway.script(Edge.page(504, served=served))
    with pytest.raises(flatfee.InternalServerError) as caught:
        client.chat.completions.create(**HELLO)
    assert (caught.value.status_code, caught.value.receipt, caught.value.request_id) == (504, None, None)
    assert (used(client) > 0) is served


@pytest.mark.parametrize("code", ErrorCode)
def test_an_error_of_the_table_is_what_the_gateway_would_say(
    code: ErrorCode, gateway: ScriptedGateway, client: flatfee.Client
) -> None:
    gateway.script(Edge.error(code, retry_after=3))
    rule = ERRORS[code]
    for stream in (False, True):
        with pytest.raises(flatfee.APIStatusError) as caught:
            client.chat.completions.create(**HELLO, stream=stream)
        error = caught.value
        assert type(error) is CODE_CLASSES[code]
        assert (error.status_code, error.code, error.retryable) == (rule.status, code, rule.retryable)
        assert error.retry_after == (3 if rule.retryable else None)
        assert error.receipt is not None
        assert error.receipt.state == "refused"
    assert used(client) == 0


def test_an_injected_error_looks_as_the_real_one(gateway: ScriptedGateway) -> None:
    """Same members of the envelope, same headers but for what only a real request knows."""
    with httpx.Client(base_url=gateway.base_url, headers={"authorization": f"Bearer {gateway.api_key}"}) as http:
        with gateway.overload():
            real = http.post("/chat/completions", json=HELLO)
        gateway.script(Edge.error("gateway_overloaded"))
        injected = http.post("/chat/completions", json=HELLO)
    assert injected.status_code == real.status_code
    assert injected.json().keys() == real.json().keys()
    assert injected.json()["error"].keys() == real.json()["error"].keys()
    assert injected.json()["flatfee"].keys() == real.json()["flatfee"].keys()
    assert injected.headers.keys() == real.headers.keys()


def test_receipts_survive_a_proxy_that_takes_headers_away(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    gateway.script(Edge.stripped())
    raw = client.chat.completions.with_raw_response.create(**HELLO)
    assert Header.LANE not in raw.headers
    assert raw.parse().receipt.lane == "premium"


def test_only_the_headers_that_are_named_are_taken_away(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    gateway.script(Edge.stripped("x-flatfee-lane"))
    headers = client.chat.completions.with_raw_response.create(**HELLO).headers
    assert Header.LANE not in headers
    assert Header.ROUTE in headers


@pytest.mark.parametrize("edge", [Edge.packed(), Edge.paced(0.005), Edge.gathered()])
def test_what_a_proxy_may_do_changes_no_answer(edge: Edge, gateway: ScriptedGateway, client: flatfee.Client) -> None:
    gateway.script(edge)
    assert streamed(client) == TEXT
    assert client.chat.completions.create(**HELLO).choices[0].message.content == TEXT


@pytest.mark.parametrize("edge", [Edge.twice(), Edge.typed("text/html")])
def test_what_a_proxy_may_not_do_is_told(edge: Edge, gateway: ScriptedGateway, client: flatfee.Client) -> None:
    gateway.script(edge)
    stream = edge.kind == "typed"
    with pytest.raises(flatfee.APIResponseValidationError):
        client.chat.completions.create(**HELLO, stream=stream)


def test_the_first_edge_that_matches_happens_and_no_other(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    gateway.script(Edge.stripped(), times=1)
    gateway.script(Edge.packed(), Edge.typed("text/plain"))
    heads = [client.chat.completions.with_raw_response.create(**HELLO).headers for _ in range(3)]
    assert [Header.LANE in head for head in heads] == [False, True, True]
    assert [head.get("content-encoding") for head in heads] == [None, "gzip", None]
    assert heads[-1]["content-type"] == "text/plain"
    with pytest.raises(ValueError, match="never be reached"):
        gateway.script(Edge.cut())


def test_an_edge_is_for_the_requests_that_its_rule_matches(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    rule = gateway.script(Edge.lost(), user="Goodbye", stream=False, times=1)
    assert client.chat.completions.create(**HELLO).choices[0].message.content == TEXT
    assert rule.used == 0
    with pytest.raises(flatfee.APIConnectionError):
        client.chat.completions.create(model="premium", messages=[{"role": "user", "content": "Goodbye"}])
    assert rule.used == 1


def test_openai_python_is_told_as_much(gateway: ScriptedGateway) -> None:
    with openai.OpenAI(api_key=gateway.api_key, base_url=gateway.base_url, max_retries=0) as theirs:
        rule = gateway.script(Edge.error("workflow_limit", retry_after=2))
        with pytest.raises(openai.RateLimitError) as refused:
            theirs.chat.completions.create(**HELLO)
        assert (refused.value.code, refused.value.response.headers["retry-after"]) == ("workflow_limit", "2")
        rule.remove()
        gateway.script(Edge.cut())
        with pytest.raises(openai.APIConnectionError):
            theirs.chat.completions.create(**HELLO)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "edge",
    [
        *(
            Edge.lost(),
            Edge.cut(),
            Edge.cut(after=2),
            Edge.stall(seconds=0.01),
            Edge.page(),
            Edge.error("rate_limited"),
        ),
        *(Edge.stripped(), Edge.packed(), Edge.gathered(), Edge.typed("text/html")),
    ],
    ids=str,
)
def test_the_same_happens_without_a_socket(edge: Edge, stream: bool, gateway: ScriptedGateway) -> None:
    gateway.script(edge)
    outcomes = [outcome(gateway.client(memory=memory, max_retries=0), stream=stream) for memory in (False, True)]
    assert outcomes[0] == outcomes[1]


def outcome(client: flatfee.Client, *, stream: bool) -> tuple[str, str | None]:
    try:
        text = streamed(client) if stream else client.chat.completions.create(**HELLO).choices[0].message.content
    except flatfee.APIError as error:
        return type(error).__name__, error.partial
    return "whole", text


def test_without_a_socket_nothing_connects_while_it_is_down(gateway: ScriptedGateway) -> None:
    client = gateway.client(memory=True, max_retries=0)
    with gateway.down(), pytest.raises(flatfee.APIConnectionError):
        client.chat.completions.create(**HELLO)
    assert streamed(client) == TEXT


def test_a_server_that_cannot_break_connections_says_so() -> None:
    async def nothing(*_: Any) -> Any:
        raise AssertionError

    exchange = Exchange(number=1, method="POST", path="/", query="", headers={}, arrived=0.0)
    traffic = Traffic(VirtualClock())
    line = Line(scope={}, receive=nothing, send=nothing, exchange=exchange, traffic=traffic, now=0.0, new_id=str)
    with pytest.raises(RuntimeError, match="cannot break connections"):
        asyncio.run(line.breaks())


def test_an_async_client_is_cut_off_too(gateway: ScriptedGateway) -> None:
    gateway.script(Edge.cut(after=3))

    async def ask() -> None:
        async with flatfee.AsyncClient(api_key=gateway.api_key, base_url=gateway.base_url, max_retries=0) as client:
            async for _ in await client.chat.completions.create(**HELLO, stream=True):
                pass

    with pytest.raises(flatfee.APIConnectionError):
        asyncio.run(ask())


def test_while_it_is_down_nothing_connects_and_then_the_address_is_the_same(
    gateway: ScriptedGateway, client: flatfee.Client
) -> None:
    assert streamed(client) == TEXT
    with gateway.down():
        with pytest.raises(flatfee.APIConnectionError) as caught:
            client.chat.completions.create(**HELLO)
        assert caught.value.sent is False
    assert streamed(client) == TEXT


def test_the_journal_and_its_verdict_see_what_the_client_got(gateway: ScriptedGateway) -> None:
    """A client that does not wait as it was told is found out, whoever told it."""
    gateway.script(Edge.error("workflow_limit", retry_after=30), times=2)
    client = gateway.client(max_retries=0)
    for _ in range(2):
        with pytest.raises(flatfee.ConcurrencyLimitError):
            client.chat.completions.create(**HELLO)
    entry = gateway.journal.last
    assert (entry.status, entry.code, entry.retry_after) == (429, "workflow_limit", 30)
    assert "Edge.error(code=" in gateway.journal.text()
    with pytest.raises(AssertionError, match="30 s"):
        gateway.assert_resilient()


# Rules and forms


@pytest.mark.parametrize("late", [{"route": "premium-a"}, {"tier": "premium"}, {"attempt": 1}, {"nth": 2}])
def test_a_rule_for_an_edge_cannot_name_what_is_known_later(late: dict[str, Any], gateway: ScriptedGateway) -> None:
    with pytest.raises(ValueError, match="happens before a route is asked"):
        gateway.script(Edge.cut(), **late)


def test_an_edge_and_an_answer_are_two_rules(gateway: ScriptedGateway) -> None:
    with pytest.raises(ValueError, match="two rules"):
        gateway.script(Edge.cut(), "It is sunny.")


def test_a_function_that_returns_an_edge_is_told_that_it_is_too_late(client: flatfee.Client) -> None:
    with running_gateway() as gateway:
        gateway.script(lambda _: Edge.cut())
        with pytest.raises(flatfee.APIStatusError):
            gateway.client(max_retries=0).chat.completions.create(**HELLO)
        with pytest.raises(ScriptFailed, match="happens before a route is asked"):
            gateway.assert_all_matched()


def test_every_kind_has_a_method_of_its_name_and_a_json_form() -> None:
    made = [
        *(Edge.lost(), Edge.cut(after=3), Edge.stall(seconds=1.0), Edge.page(503), Edge.error("not_found")),
        *(Edge.stripped("x-a"), Edge.paced(0.1), Edge.packed(), Edge.twice(), Edge.typed("a/b"), Edge.gathered()),
    ]
    assert [edge.kind for edge in made] == list(EDGES)
    assert [Edge.model_validate(edge.model_dump(mode="json", exclude_unset=True)) for edge in made] == made
    assert str(Edge.cut(after=3)) == "Edge.cut(after=3)"


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({"kind": "lost", "after": 1}, "'lost' knows no 'after'; it takes nothing"),
        ({"kind": "cut", "after": 1, "after_bytes": 1}, "not both"),
        ({"kind": "paced"}, "'paced' needs 'seconds'"),
        ({"kind": "typed", "content_type": "text/plain\r\nx: y"}, "should match pattern"),
        ({"kind": "stripped", "headers": [""]}, "at least 1 character"),
        ({"kind": "error"}, "needs a 'code', one of: invalid_request"),
        ({"kind": "cut", "aftr": 1}, "did you mean 'after'"),
    ],
)
def test_a_form_that_cannot_be_names_value_and_cure(form: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Edge.model_validate(form)
