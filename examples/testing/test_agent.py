"""What the agent does when things go wrong. Run it with `pytest`, after `pip install "flatfee[testing]"`."""

from __future__ import annotations

from datetime import timedelta

import pytest

import flatfee
from agent import report
from flatfee.testing import Edge, Fault, Reply, ScriptedGateway, call


@pytest.fixture(autouse=True)
def weather(flatfee_gateway: ScriptedGateway) -> None:
    """Script the model: it calls the tool, tells its result, and writes the report."""
    flatfee_gateway.script("It is sunny and 21 degrees.", user="Write the report.")
    flatfee_gateway.script("21 degrees.", tool_result="21 degrees in Lisbon")
    flatfee_gateway.script(Reply(tool_calls=[call("temperature", city="Lisbon")]), tool="temperature")


def test_report_is_written(flatfee_gateway: ScriptedGateway, flatfee_client: flatfee.Client) -> None:
    outcome = report(flatfee_client, "Lisbon")
    assert (outcome.status, outcome.text) == ("done", "It is sunny and 21 degrees.")
    assert outcome.lanes == ("premium", "premium", "premium")
    flatfee_gateway.assert_resilient()
    assert not flatfee_gateway.workflows.active


@pytest.mark.flatfee(meter="requests", fair_use=2)
def test_exhaustion_makes_the_report_a_cheaper_one(
    flatfee_gateway: ScriptedGateway, flatfee_client: flatfee.Client
) -> None:
    assert report(flatfee_client, "Lisbon").lanes == ("premium", "premium", "continuation")
    flatfee_gateway.advance_to_window_end()
    assert report(flatfee_client, "Lisbon").lanes == ("premium", "premium", "continuation")


@pytest.mark.flatfee(continuation=False)
def test_exhaustion_without_continuation_is_told(
    flatfee_gateway: ScriptedGateway, flatfee_client: flatfee.Client
) -> None:
    flatfee_gateway.account.set(used=100_000)
    outcome = report(flatfee_client, "Lisbon")
    assert (outcome.status, outcome.why) == ("unpaid", "fair_use_exhausted")
    flatfee_gateway.assert_resilient()


def test_account_that_is_suspended_is_told(flatfee_gateway: ScriptedGateway, flatfee_client: flatfee.Client) -> None:
    flatfee_gateway.account.set(billing="suspended")
    assert report(flatfee_client, "Lisbon").why == "billing_inactive"


@pytest.mark.flatfee(concurrent_workflows=2)
def test_third_run_at_once_is_refused(flatfee_gateway: ScriptedGateway, flatfee_client: flatfee.Client) -> None:
    flatfee_gateway.workflows.hold(2)
    assert report(flatfee_client, "Lisbon").status == "busy"
    flatfee_gateway.assert_resilient()  # it waited as long as it was told before it asked again

    flatfee_gateway.advance(timedelta(minutes=2))  # nobody was heard of: their slots are free again
    assert report(flatfee_client, "Lisbon").status == "done"


def test_outage_of_one_route_goes_unnoticed(flatfee_gateway: ScriptedGateway, flatfee_client: flatfee.Client) -> None:
    flatfee_gateway.script(Fault.silent(), route="premium-a", first=True)
    outcome = report(flatfee_client, "Lisbon")
    assert outcome.status == "done"
    assert "fallback" in outcome.lanes


def test_outage_of_all_is_told_and_asked_once(flatfee_gateway: ScriptedGateway, flatfee_client: flatfee.Client) -> None:
    flatfee_gateway.script(Fault.unreachable(), first=True)
    outcome = report(flatfee_client, "Lisbon")
    assert (outcome.status, outcome.why) == ("outage", "tried economy-a, economy-b, premium-a, premium-b")
    assert len(flatfee_gateway.journal.completions) == 1
    flatfee_gateway.assert_resilient()


@pytest.mark.parametrize("cut", [Edge.cut(after=3), Fault.cuts(after=3)])
def test_report_that_breaks_off_is_not_taken_for_a_whole_one(
    flatfee_gateway: ScriptedGateway, flatfee_client: flatfee.Client, cut: Edge | Fault
) -> None:
    flatfee_gateway.script(cut, user="Write the report.", first=True)
    outcome = report(flatfee_client, "Lisbon")
    assert outcome.status == "partial"
    assert outcome.text
    assert outcome.text != "It is sunny and 21 degrees."
