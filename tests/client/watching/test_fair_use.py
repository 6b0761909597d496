"""Fair-use as the client saw it last, and the alerts when it runs low."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from flatfee import ConfigurationError, FairUse, Receipt
from flatfee.client.watching.fair_use import Alert, FairUseSight

NOVEMBER, DECEMBER = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)


def seen(remaining: int | None, limit: int | None = 100, window: datetime | None = NOVEMBER) -> Receipt:
    return Receipt(fair_use=FairUse(remaining=remaining, limit=limit, resets_at=window))


def left(remaining: int | str, request: str = "req_1") -> dict[str, str]:
    return {"x-flatfee-request-id": request, "x-flatfee-fair-use-remaining": str(remaining)}


def completion(headers: dict[str, str], **extra: Any) -> httpx.Response:
    return httpx.Response(200, headers=headers, json={"choices": [], **extra})


async def test_fair_use_is_what_the_last_answer_told(driver: Any) -> None:
    replies = [completion(left(90)), completion(left(80), flatfee={"fair_use": {"remaining": 85, "charged": 3}})]
    gateway: Any = driver(lambda _: replies.pop(0))
    unknown = gateway.client.fair_use
    assert unknown is None
    await gateway.create()
    assert gateway.client.fair_use == FairUse(remaining=90)
    await gateway.create()
    assert gateway.client.fair_use == FairUse(remaining=85)


async def test_fair_use_is_told_by_streams_and_errors_too(driver: Any, sse: Any, refuse: Any) -> None:
    last = b'data: {"choices":[{"finish_reason":"stop"}],"flatfee":{"fair_use":{"remaining":70}}}\n\n'
    replies = [sse(last), refuse("fair_use_exhausted", **{"x-flatfee-fair-use-remaining": "0"})]
    gateway = driver(lambda _: replies.pop(0))
    stream = await gateway.stream()
    assert gateway.client.fair_use.remaining == 90
    await gateway.all(stream)
    assert gateway.client.fair_use.remaining == 70
    with pytest.raises(Exception, match="No"):
        await gateway.create()
    assert gateway.client.fair_use.remaining == 0


async def test_an_answer_that_tells_nothing_covers_nothing(driver: Any, refuse: Any) -> None:
    limit = {"x-flatfee-request-id": "req_1", "x-flatfee-fair-use-limit": "100"}
    replies = [completion(left(90)), refuse("invalid_api_key"), completion(limit)]
    gateway = driver(lambda _: replies.pop(0))
    await gateway.create()
    with pytest.raises(Exception, match="No"):
        await gateway.create()
    await gateway.create()
    assert gateway.client.fair_use.remaining == 90


async def test_a_raw_response_tells_what_its_answer_does(driver: Any) -> None:
    gateway = driver(completion(left(80), flatfee={"fair_use": {"remaining": 85}}))
    raw = gateway.client.chat.completions.with_raw_response
    await gateway.wait(raw.create(model="auto", messages=[]))
    assert gateway.client.fair_use == FairUse(remaining=85)


async def test_copies_and_workflows_see_the_same(driver: Any) -> None:
    gateway = driver(completion(left(90)))
    copy, scope = gateway.client.with_options(max_retries=0), gateway.client.workflow("run-1")
    await gateway.create(scope)
    assert gateway.client.fair_use == copy.fair_use == scope.fair_use == FairUse(remaining=90)


def test_what_was_seen_outlasts_many_answers_that_tell_nothing_once_it_was_asked_for() -> None:
    sight = FairUseSight()
    sight.saw(seen(90))
    assert sight.last()
    for _ in range(100):
        sight.saw(Receipt())
    assert (sight.last() or FairUse()).remaining == 90
    assert len(sight._unread) < 10


def alerts(*thresholds: float) -> tuple[FairUseSight, list[tuple[float, int | None]]]:
    sight = FairUseSight()
    heard: list[tuple[float, int | None]] = []

    def hear(below: float) -> Callable[[FairUse], None]:
        return lambda use: heard.append((below, use.remaining))

    for below in thresholds:
        sight.add(Alert(below, hear(below)))
    return sight, heard


def test_an_alert_is_given_once_in_a_window() -> None:
    sight, heard = alerts(0.5, 0.1)
    for remaining in (90, 50, 49, 30, 60, 20, 9, 0):
        sight.saw(seen(remaining))
    assert heard == [(0.5, 49), (0.1, 9)]


def test_an_alert_is_given_again_in_the_next_window() -> None:
    sight, heard = alerts(0.5)
    for window, remaining in ((NOVEMBER, 40), (DECEMBER, 99), (NOVEMBER, 30), (DECEMBER, 45), (NOVEMBER, 20)):
        sight.saw(seen(remaining, window=window))
    assert heard == [(0.5, 40), (0.5, 45)]


def test_an_answer_that_the_change_of_windows_overtook_gives_no_alert() -> None:
    sight, heard = alerts(0.5)
    sight.saw(seen(40, window=DECEMBER))
    sight.saw(seen(1, window=NOVEMBER))
    assert heard == [(0.5, 40)]


@pytest.mark.parametrize(("remaining", "limit"), [(None, 100), (5, None), (0, 0)])
def test_without_a_share_there_is_no_alert(remaining: Any, limit: Any) -> None:
    sight, heard = alerts(1.0)
    sight.saw(seen(remaining, limit))
    assert heard == []


def test_a_window_that_is_not_told_is_one_window() -> None:
    sight, heard = alerts(0.5)
    for _ in range(3):
        sight.saw(seen(4, window=None))
    assert heard == [(0.5, 4)]


async def test_a_client_gives_alerts_until_it_is_told_to_stop(driver: Any) -> None:
    limits = {"x-flatfee-fair-use-limit": "100"}
    replies = [completion(left(remaining) | limits) for remaining in (90, 9, 4)]
    gateway = driver(lambda _: replies.pop(0))
    heard: list[FairUse] = []
    gateway.client.on_fair_use(below=0.1, call=heard.append)
    stop = gateway.client.workflow("run-1").on_fair_use(below=0.05, call=heard.append)
    await gateway.create()
    assert heard == []
    await gateway.create()
    stop()
    await gateway.create()
    assert [use.remaining for use in heard] == [9]


async def test_a_failing_alert_costs_nobody_an_answer(driver: Any, caplog: Any) -> None:
    gateway = driver(completion(left(1) | {"x-flatfee-fair-use-limit": "100"}))
    gateway.client.on_fair_use(below=0.5, call=lambda _: 1 / 0)
    await gateway.create()
    assert "client.callback_failed callback=on_fair_use error=ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("below", [0, 1.1, -1, True, "half", None])
def test_a_threshold_that_is_no_share_is_refused(driver: Any, below: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"below is .*; use a share"):
        driver(completion({})).client.on_fair_use(below=below, call=print)


def test_a_function_that_must_be_awaited_is_refused(driver: Any) -> None:
    async def later(_: FairUse) -> None: ...

    with pytest.raises(ConfigurationError, match="call is a coroutine function"):
        driver(completion({})).client.on_fair_use(below=0.1, call=later)
