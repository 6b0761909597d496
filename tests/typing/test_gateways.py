"""How callers set the test double up and judge with it, type-checked by mypy and pyright, and run once."""

from typing import assert_type

import pytest

import flatfee
from flatfee.testing import GatewayFactory, Limits, ScriptedGateway, Verdict, running_gateway


def several(flatfee_gateways: GatewayFactory) -> ScriptedGateway:
    """Stand for a test with the plugin's fixture: only looked at by the checkers."""
    flatfee_gateways(fairuse=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    return flatfee_gateways(fair_use=1, strict=True)


def test_options_are_typed() -> None:
    with running_gateway(fair_use=1000, workflow_idle=30, routes=[{"name": "a", "tier": "premium"}]) as gateway:
        assert_type(gateway, ScriptedGateway)
    with (
        pytest.raises(ValueError, match="fair_use"),
        running_gateway(fairuse=1),  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ):
        pass


def test_limits_and_clients_are_typed() -> None:
    with running_gateway() as gateway:
        assert_type(gateway.verdict(most_tries=3, skip=["burst"], slots=True), Verdict)
        gateway.assert_resilient(tolerance=1, skip=("burst",))
        assert Limits(skip=["burst"]).skip == ("burst",)
        with pytest.raises(ValueError, match="most_tries"):
            gateway.assert_resilient(most_trys=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
        assert_type(gateway.client(max_retries=0), flatfee.Client)
        assert_type(gateway.async_client(memory=True), flatfee.AsyncClient)
