"""Every code of the error table, brought about in the double as in production, and caught under its name.

What an ``Edge`` injects is the same to the client; ``test_edge`` has every code of the table. Here are those that
come of what the account, the routes or the request are like.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Final

import openai
import pytest

import flatfee
from flatfee.errors import CODE_CLASSES
from flatfee.testing import Edge, Fault, ScriptedGateway, running_gateway
from flatfee.wire import ERRORS, ErrorCode

pytestmark = pytest.mark.slow
"""It goes through many cases; ``make check`` has the time."""

HELLO: Final[dict[str, Any]] = {"model": "premium", "messages": [{"role": "user", "content": "Hello"}]}

Ask = Callable[[Any], object]
Arrange = Callable[[ScriptedGateway, ExitStack], Ask]
"""Brings the gateway into a state in which what is returned fails, with either client."""


def hello(**more: Any) -> Ask:
    return lambda client: client.chat.completions.create(**HELLO | more)


def asks(**more: Any) -> Arrange:
    return lambda gateway, ends: hello(**more)


def with_headers(**headers: str) -> Arrange:
    return asks(extra_headers={name.replace("_", "-"): value for name, value in headers.items()})


def account(more: dict[str, Any] | None = None, **changes: Any) -> Arrange:
    def arrange(gateway: ScriptedGateway, ends: ExitStack) -> Ask:
        del ends
        gateway.account.set(**changes)
        return hello(**more or {})

    return arrange


def scripted(fault: Fault, **match: Any) -> Arrange:
    def arrange(gateway: ScriptedGateway, ends: ExitStack) -> Ask:
        del ends
        gateway.script(fault, **match)
        return hello()

    return arrange


def other_key(model: str) -> Arrange:
    def arrange(gateway: ScriptedGateway, ends: ExitStack) -> Ask:
        del ends
        key = gateway.new_key(models=[model])
        return hello(extra_headers={"authorization": f"Bearer {key}"})

    return arrange


def rate(gateway: ScriptedGateway, ends: ExitStack) -> Ask:
    del ends
    gateway.account.set(requests_per_minute=1)

    def ask(client: Any) -> object:
        for _ in range(70):
            client.chat.completions.create(**HELLO)
        return None

    return ask


def slots(gateway: ScriptedGateway, ends: ExitStack) -> Ask:
    del ends
    gateway.account.set(concurrent_workflows=1)
    gateway.workflows.hold("run-1")
    return hello()


def again(body: dict[str, Any]) -> Arrange:
    def arrange(gateway: ScriptedGateway, ends: ExitStack) -> Ask:
        del ends
        headers = {"Idempotency-Key": "the-same"}
        gateway.client(max_retries=0).chat.completions.create(**HELLO, extra_headers=headers)
        return hello(**body, extra_headers=headers)

    return arrange


def still_running(gateway: ScriptedGateway, ends: ExitStack) -> Ask:
    """Hold the first answer back, so that the second request meets one that runs."""
    gate = gateway.gate()
    gateway.script(gate.then("late"), times=1)
    headers = {"Idempotency-Key": "runs"}
    pool = ends.enter_context(ThreadPoolExecutor(1))
    first = pool.submit(hello(extra_headers=headers), gateway.client(max_retries=0))
    ends.callback(first.result, 10)
    ends.callback(gate.open)
    gate.wait_until_waiting()
    return hello(extra_headers=headers)


def busy(gateway: ScriptedGateway, ends: ExitStack) -> Ask:
    ends.enter_context(gateway.overload())
    return hello()


def no_ledger(gateway: ScriptedGateway, ends: ExitStack) -> Ask:
    ends.enter_context(gateway.ledger_down())
    return hello()


def late(gateway: ScriptedGateway, ends: ExitStack) -> Ask:
    del ends
    gateway.script(Fault.silent())
    return hello(extra_headers={"x-flatfee-deadline-ms": "30000"})


def answer_forgotten(gateway: ScriptedGateway, ends: ExitStack) -> Ask:
    """Ask again after the time for which answers are kept."""
    ask = again({})(gateway, ends)
    gateway.advance(700)
    return ask


STATES: Final[dict[ErrorCode, Arrange]] = {
    ErrorCode.INVALID_REQUEST: with_headers(x_flatfee_task="dance"),
    ErrorCode.MISSING_API_KEY: with_headers(authorization="Basic abc"),
    ErrorCode.INVALID_API_KEY: with_headers(authorization=f"Bearer {'x' * 40}"),
    ErrorCode.FAIR_USE_EXHAUSTED: account(
        {"extra_headers": {"x-flatfee-on-exhausted": "fail"}}, fair_use=100, used=100
    ),
    ErrorCode.BILLING_INACTIVE: account(billing="suspended"),
    ErrorCode.PERMISSION_DENIED: other_key("economy"),
    ErrorCode.BROWSER_ORIGIN: with_headers(origin="https://example.com"),
    ErrorCode.MODEL_NOT_FOUND: asks(model="gpt-9"),
    ErrorCode.IDEMPOTENCY_MISMATCH: again({"temperature": 0.5}),
    ErrorCode.IDEMPOTENCY_EXPIRED: answer_forgotten,
    ErrorCode.IDEMPOTENCY_IN_FLIGHT: still_running,
    ErrorCode.UNSUPPORTED_ENCODING: with_headers(content_encoding="gzip"),
    ErrorCode.HEADERS_TOO_LARGE: with_headers(x_padding="x" * 40_000),
    ErrorCode.WORKFLOW_LIMIT: slots,
    ErrorCode.RATE_LIMITED: rate,
    ErrorCode.GATEWAY_OVERLOADED: busy,
    ErrorCode.STORE_UNAVAILABLE: no_ledger,
    ErrorCode.FALLBACK_EXHAUSTED: scripted(Fault.status(503)),
    ErrorCode.DEADLINE_EXCEEDED: late,
}
"""Code → what brings it about."""

ELSEWHERE: Final[dict[ErrorCode, str]] = {
    ErrorCode.PROVIDER_UNAVAILABLE: "one eligible route: test_failure_table",
    ErrorCode.REQUEST_TOO_LARGE: "a body of 32 MiB: tests.server",
    ErrorCode.NOT_FOUND: "below, for it is no completion",
    ErrorCode.CONFLICT: "the admin API",
}


@pytest.fixture(scope="module")
def running() -> Iterator[ScriptedGateway]:
    with running_gateway() as gateway:
        yield gateway


@pytest.fixture
def gateway(running: ScriptedGateway) -> ScriptedGateway:
    running.reset()
    return running


def test_every_code_is_here_or_elsewhere() -> None:
    assert {*STATES, *ELSEWHERE} == set(ErrorCode)


@pytest.mark.parametrize("code", STATES)
def test_a_code_is_caught_under_its_name(code: ErrorCode, gateway: ScriptedGateway) -> None:
    rule = ERRORS[code]
    with ExitStack() as ends:
        ask = STATES[code](gateway, ends)
        with pytest.raises(flatfee.APIStatusError) as caught:
            ask(gateway.client(max_retries=0))
        with (
            openai.OpenAI(api_key=gateway.api_key, base_url=gateway.base_url, max_retries=0) as theirs,
            pytest.raises(openai.APIStatusError) as theirs_caught,
        ):
            ask(theirs)
    error = caught.value
    assert type(error) is CODE_CLASSES[code]
    assert (error.status_code, error.code, error.retryable) == (rule.status, code, rule.retryable)
    assert (error.retry_after is not None) is rule.retryable
    assert error.request_id is not None
    assert (theirs_caught.value.status_code, theirs_caught.value.code) == (rule.status, code)


def test_a_receipt_of_nobody_is_not_found(gateway: ScriptedGateway) -> None:
    with pytest.raises(flatfee.NotFoundError):
        gateway.client().receipts.retrieve("req_01K9YV6M2Q8R4T6W8Y0ABCDEFG")


def test_a_client_cannot_tell_an_injected_error_from_a_real_one(gateway: ScriptedGateway) -> None:
    gateway.account.set(concurrent_workflows=1)
    gateway.workflows.hold("run-1")
    client = gateway.client(max_retries=0)
    with pytest.raises(flatfee.ConcurrencyLimitError) as real:
        client.chat.completions.create(**HELLO)
    gateway.reset()
    gateway.script(Edge.error("workflow_limit", retry_after=3))
    with pytest.raises(flatfee.ConcurrencyLimitError) as injected:
        client.chat.completions.create(**HELLO)
    assert vars(injected.value).keys() == vars(real.value).keys()
    for name in ("code", "type", "param", "status_code", "retryable"):
        assert getattr(injected.value, name) == getattr(real.value, name)
