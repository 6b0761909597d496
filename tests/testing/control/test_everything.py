"""What a test in Python can do with a gateway, one in another language can do over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.testing.control.conftest import Caller

import flatfee

HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def client(control: Caller) -> Iterator[flatfee.Client]:
    told = control.told("GET", "")
    with flatfee.Client(api_key=told["api_key"], base_url=told["base_url"], max_retries=0) as client:
        yield client


def ask(client: flatfee.Client, text: str = "Hello", **options: Any) -> flatfee.ChatCompletion:
    answer: flatfee.ChatCompletion = client.chat.completions.create(
        model="premium", messages=[{"role": "user", "content": text}], **options
    )
    return answer


def said(answer: flatfee.ChatCompletion) -> str | None:
    return answer.choices[0].message.content


class TestScript:
    def test_answers_as_its_rules_say(self, control: Caller, client: flatfee.Client) -> None:
        rules = [
            {"user": {"contains": "weather"}, "replies": ["Sunny."]},
            {"replies": [{"text": "Yes?"}], "name": "all"},
        ]
        added = control.told("POST", "/script", rules)
        assert [rule["used"] for rule in added["data"]] == [0, 0]
        assert said(ask(client, "the weather")) == "Sunny."
        assert said(ask(client)) == "Yes?"
        assert [rule["used"] for rule in control.told("GET", "/script")["data"]] == [1, 1]

    def test_adds_all_rules_or_none(self, control: Caller) -> None:
        wrong = [{"replies": ["a"], "name": "a"}, {"replies": ["b"], "turns": 1}]
        assert control.refused("POST", "/script", wrong) == "rules[1]: RuleForm has no 'turns'; did you mean 'turn'?"
        assert control.told("GET", "/script")["data"] == []

    def test_forgets_one_rule_and_all(self, control: Caller) -> None:
        control.told("POST", "/script", [{"replies": ["a"], "turn": 1, "name": "a"}, {"replies": ["b"], "name": "b"}])
        assert control.told("DELETE", "/script/a")["name"] == "a"
        assert control.refused("DELETE", "/script/a") == "There is no rule 'a'; there are: b."
        control.told("DELETE", "/script")
        assert control.told("GET", "/script")["data"] == []

    def test_holds_answers_behind_a_gate(self, control: Caller, client: flatfee.Client) -> None:
        control.told("POST", "/script", {"replies": ["late"], "gate": "first"})
        answers: list[str | None] = []
        thread = threading.Thread(target=lambda: answers.append(said(ask(client))))
        thread.start()
        while control.told("GET", "/gates/first")["waiting"] < 1:
            assert not answers
        assert control.told("POST", "/gates/first", {})["open"]
        thread.join(60)
        assert answers == ["late"]
        assert control.refused("GET", "/gates/other") == "There is no gate 'other'; rules have: first."

    def test_tells_what_a_strict_script_did_not_match(self, control: Caller) -> None:
        told = control.told("POST", "/gateways", {"strict": True})
        strict = Caller(told["control_url"], control.ended)
        try:
            assert strict.told("GET", "/unmatched")["matched"]
            strict.told("POST", "/script", {"replies": ["a"], "user": "Hi"})
            with (
                flatfee.Client(api_key=told["api_key"], base_url=told["base_url"]) as client,
                pytest.raises(flatfee.BadRequestError),
            ):
                ask(client)
            unmatched = strict.told("GET", "/unmatched")
            assert not unmatched["matched"]
            assert "Hi" in unmatched["text"]
        finally:
            strict.close()


class TestState:
    def test_sets_allowance_and_use(self, control: Caller, client: flatfee.Client) -> None:
        usage = control.told("PATCH", "/account", {"fair_use": 100, "used": 100})
        assert usage["fair_use"]["remaining"] == 0
        receipt = ask(client).receipt
        assert receipt is not None
        assert (receipt.lane, receipt.reason) == ("continuation", "fair_use_exhausted")

    def test_refuses_what_is_impossible(self, control: Caller) -> None:
        assert "fair_usage" in control.refused("PATCH", "/account", {"fair_usage": 1})
        assert "-1" in control.refused("PATCH", "/account", {"used": -1})

    def test_holds_and_frees_slots(self, control: Caller, client: flatfee.Client) -> None:
        control.told("PATCH", "/account", {"concurrent_workflows": 1})
        assert [held["id"] for held in control.told("POST", "/workflows", {"hold": "run-1"})["data"]] == ["run-1"]
        with pytest.raises(flatfee.ConcurrencyLimitError):
            ask(client)
        assert control.told("DELETE", "/workflows/run-1")["data"] == []
        assert ask(client).receipt is not None
        assert "run-1" in control.refused("DELETE", "/workflows/run-1")

    def test_takes_routes_away(self, control: Caller, client: flatfee.Client) -> None:
        assert control.told("PATCH", "/routes/premium-a", {"circuit": "open", "seconds": 30})["circuit"] == "open"
        control.told("PATCH", "/routes/premium-b", {"down": True})
        with pytest.raises(flatfee.FallbackExhausted):
            client.chat.completions.create(
                model="premium", messages=HELLO, extra_headers={"x-flatfee-on-exhausted": "fail"}
            )
        control.told("PATCH", "/routes/premium-a", {"circuit": "closed"})
        receipt = ask(client).receipt
        assert receipt is not None
        assert receipt.route == "premium-a"
        assert "there are: premium-a" in control.refused("PATCH", "/routes/premium-z", {"down": True})
        assert "seconds is 3" in control.refused("PATCH", "/routes/premium-a", {"seconds": 3})

    def test_makes_keys(self, control: Caller) -> None:
        told = control.told("POST", "/keys", {"project": "docs", "models": ["economy"]})
        url = control.told("GET", "")["base_url"]
        with (
            flatfee.Client(api_key=told["api_key"], base_url=url) as client,
            pytest.raises(flatfee.PermissionDeniedError),
        ):
            ask(client)

    def test_begins_again(self, control: Caller, client: flatfee.Client) -> None:
        control.told("POST", "/script", {"replies": ["scripted"]})
        control.told("PATCH", "/account", {"used": 500})
        control.told("POST", "/reset")
        assert said(ask(client)) != "scripted"
        assert control.told("GET", "/account")["fair_use"]["used"] < 500
        assert len(control.told("GET", "/journal")["data"]) == 1

    def test_goes_to_the_end_of_a_window(self, control: Caller) -> None:
        end = control.told("GET", "/account")["window"]["end"]
        control.told("POST", "/clock", {"advance_to": "window_end"})
        assert control.told("GET", "/account")["window"]["start"] == end
        control.told("POST", "/clock", {"advance_to": "2027-01-01T00:00:00Z"})
        assert control.told("GET", "/clock")["now"].startswith("2027-01-01T00:00:0")


class TestJudging:
    def test_shows_what_was_asked(self, control: Caller, client: flatfee.Client) -> None:
        ask(client, "a secret question")
        journal = control.told("GET", "/journal?wait_for=1")
        assert journal["data"][0]["status"] == 200
        assert "premium-a" in journal["text"]
        assert "a secret question" not in str(journal)
        assert "a secret question" in str(control.told("GET", "/journal?bodies=true"))

    def test_judges_the_client(self, control: Caller, client: flatfee.Client) -> None:
        assert control.told("POST", "/verdict", {})["resilient"]
        control.told("PATCH", "/account", {"billing": "suspended"})
        for _ in range(3):
            with pytest.raises(flatfee.BillingError):
                ask(client)
        verdict = control.told("POST", "/verdict", {})
        assert not verdict["resilient"]
        assert verdict["violations"][0]["rule"] in verdict["text"]
        assert control.told("POST", "/verdict", {"skip": [found["rule"] for found in verdict["violations"]]})[
            "resilient"
        ]
        assert "There is no rule 'kindness' to skip" in control.refused("POST", "/verdict", {"skip": ["kindness"]})
        assert "Limits has no 'tries'; did you mean 'most_tries'?" in control.refused("POST", "/verdict", {"tries": 1})
        assert "most_tries" in control.refused("POST", "/verdict", {"most_tries": "many"})
