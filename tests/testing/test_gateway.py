"""The double is the production gateway: it answers, it can be reached from anywhere, and its time is its own."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from tests.testing.fakes import until

import flatfee
from flatfee.testing import Edge, Fault, ScriptedGateway, running_gateway
from flatfee.testing.gateway import make_gateway
from flatfee.testing.scripting.asked import Asked
from flatfee.testing.scripting.played import Pause, Played

HELLO = [{"role": "user", "content": "Hello"}]


class Silent:
    """A rule's answer that never comes."""

    def play(self, asked: Asked) -> Played:
        return Played(before=(Pause(),))


@pytest.fixture
def gateway() -> Iterator[ScriptedGateway]:
    with running_gateway() as gateway:
        yield gateway


@pytest.fixture
def client(gateway: ScriptedGateway) -> Iterator[flatfee.Client]:
    with flatfee.Client(api_key=gateway.api_key, base_url=gateway.base_url) as client:
        yield client


def test_answers_with_a_receipt(client: flatfee.Client) -> None:
    answer = client.chat.completions.create(model="premium", messages=HELLO)
    assert answer.receipt is not None
    assert answer.receipt.lane == "premium"
    assert answer.receipt.fair_use is not None
    assert answer.receipt.fair_use.limit == 100_000


def test_two_gateways_know_nothing_of_each_other(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    with running_gateway(fair_use=10) as other:
        assert other.base_url != gateway.base_url
        with (
            flatfee.Client(api_key=gateway.api_key, base_url=other.base_url) as stranger,
            pytest.raises(flatfee.AuthenticationError),
        ):
            stranger.chat.completions.create(model="premium", messages=HELLO)


def test_time_goes_by_at_once(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    before = client.usage.retrieve().window
    gateway.advance(timedelta(days=20))
    after = client.usage.retrieve().window
    assert gateway.now >= datetime(2026, 2, 4, 12, tzinfo=UTC)
    assert before is not None
    assert after is not None
    assert after.start == before.end


def test_time_does_not_go_backwards(gateway: ScriptedGateway) -> None:
    with pytest.raises(ValueError, match="time only goes forward"):
        gateway.advance(-1)


def test_a_gateway_can_be_ended_again_and_by_several_threads() -> None:
    gateway = make_gateway()
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: gateway.close(), range(8)))
    gateway.close()
    assert not gateway._inside.thread.is_running


def test_a_gateway_on_ip_6_tells_an_address_that_can_be_used() -> None:
    try:
        gateway = make_gateway(host="::1")
    except OSError:
        pytest.skip("there is no IP 6 here")
    with closing(gateway), gateway.client() as client:
        assert gateway.base_url.startswith("http://[::1]:")
        assert client.usage.retrieve().account == "acme"


def test_who_asks_while_a_gateway_ends_is_told_that_it_has() -> None:
    gateway = make_gateway(socket=False)
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(gateway.run, asyncio.Event().wait())
        until(asked.running)
        gateway.close()
        with pytest.raises(RuntimeError, match="has ended"):
            asked.result(60)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_is_told_whose_the_gateway_is(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    child = os.fork()
    if child == 0:
        try:
            gateway.close()
            _ = gateway.account.usage
        except RuntimeError as error:
            os._exit(7 if f"runs in process {os.getppid()}" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert client.chat.completions.create(model="premium", messages=HELLO).receipt is not None


@pytest.mark.parametrize("script", [Fault.silent(), Edge.stall(), Edge.stall(after=1)], ids=str)
@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_is_cut_off_by_the_end_is_no_crash(
    caplog: pytest.LogCaptureFixture, script: Fault | Edge, stream: bool
) -> None:
    gateway = make_gateway(autojump=False)
    gateway.script(script)
    client = gateway.client(max_retries=0)

    def ask() -> None:
        answer = client.chat.completions.create(model="premium", messages=HELLO, stream=stream)
        list(answer) if stream else None

    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(ask)
        until(lambda: [each.heard for each in gateway._inside.front.exchanges._kept] not in ([], [None]))
        gateway.close()
        assert isinstance(asked.exception(60), flatfee.APIError)
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


def test_a_crash_beside_the_gateway_is_logged(gateway: ScriptedGateway, caplog: pytest.LogCaptureFixture) -> None:
    async def crash(*_: object) -> None:
        raise ZeroDivisionError

    gateway.serve_beside("crash", crash)
    assert httpx.get(f"http://{gateway.host}:{gateway.port}/crash", trust_env=False).status_code == 500
    assert "ZeroDivisionError" in caplog.text
