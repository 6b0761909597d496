"""Scripted requests are quick: a suite of thousands of them is a matter of seconds."""

from __future__ import annotations

import time

import httpx
import pytest
from tests.testing.asking import user

from flatfee.testing import ScriptedGateway, contains, running_gateway

WANTED = 200
ROUND = 200


@pytest.mark.slow
def test_a_process_makes_two_hundred_scripted_requests_a_second() -> None:
    with running_gateway(fair_use=10**9) as gateway:
        for number in range(99):
            gateway.script("no", user=contains(f"question {number}:"), turn=1)
        gateway.script("yes", user=contains("Hello"))
        assert max(rate(gateway) for _ in range(3)) >= WANTED


def rate(gateway: ScriptedGateway) -> float:
    """Return how many requests a second of this process's time went through, client and gateway together."""
    body = {"model": "premium", "messages": [user("Hello there")]}
    with httpx.Client(base_url=gateway.base_url, headers={"authorization": f"Bearer {gateway.api_key}"}) as client:
        began = time.process_time()
        for _ in range(ROUND):
            assert b'"yes"' in client.post("/chat/completions", json=body).content
        return ROUND / (time.process_time() - began)
