"""A first test: what the model says, what goes wrong, what is left, and whether the client behaved."""

import pytest

import flatfee
from flatfee.testing import Fault, ScriptedGateway, contains


@pytest.mark.flatfee(fair_use=20_000, concurrent_workflows=2)
def test_my_agent(flatfee_gateway: ScriptedGateway, flatfee_client: flatfee.Client) -> None:
    ask = flatfee_client.chat.completions.create
    flatfee_gateway.script("It is sunny.", user=contains("weather"))
    flatfee_gateway.script(Fault.silent(), route="premium-a", times=1)

    hello = ask(model="auto", messages=[{"role": "user", "content": "Hello"}])  # ten minutes of silence, in no time
    assert hello.receipt
    assert (hello.receipt.lane, hello.receipt.reason) == ("fallback", "provider_timeout")

    flatfee_gateway.account.set(used=20_000)  # premium is spent
    weather = ask(model="premium", messages=[{"role": "user", "content": "How is the weather?"}])
    assert weather.receipt
    assert (weather.choices[0].message.content, weather.receipt.lane) == ("It is sunny.", "continuation")

    flatfee_gateway.workflows.hold(2)  # two other runs hold both slots
    with pytest.raises(flatfee.ConcurrencyLimitError):
        ask(model="auto", messages=[{"role": "user", "content": "Hello"}])

    flatfee_gateway.assert_resilient()  # judges the client: what it repeated, when, and whether it let go
