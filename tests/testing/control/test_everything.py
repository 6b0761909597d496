"""What a test in Python can do with a gateway, one in another language can do over HTTP."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest
from tests.testing.control.conftest import Caller

import flatfee
from flatfee.testing.control.handler import AT_ONCE

pytestmark = pytest.mark.slow
"""It goes through many cases; ``make check`` has the time."""

PAGE: Final = Path(__file__).parents[3] / "docs" / "guides" / "testing-http.md"
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

    def test_makes_gates_anew_at_a_reset(self, control: Caller) -> None:
        late = {"replies": ["late"], "gate": "first"}
        control.told("POST", "/script", late)
        assert control.told("POST", "/gates/first", {})["open"]
        control.told("POST", "/reset")
        assert control.refused("GET", "/gates/first") == "There is no gate 'first'; rules have: none."
        control.told("POST", "/script", late)
        assert not control.told("GET", "/gates/first")["open"]

    def test_lets_go_of_what_a_gate_held_back_at_a_reset(self, control: Caller, client: flatfee.Client) -> None:
        control.told("POST", "/script", {"replies": ["late"], "gate": "first"})
        with ThreadPoolExecutor(1) as beside:
            answer = beside.submit(ask, client)
            while control.told("GET", "/gates/first")["waiting"] < 1:
                assert not answer.done()
            control.told("POST", "/reset")
            assert said(answer.result(60)) == "late"

    def test_closes_no_gate(self, control: Caller) -> None:
        control.told("POST", "/script", {"replies": ["late"], "gate": "first"})
        assert "open is false; use True" in control.refused("POST", "/gates/first", {"open": False})

    @pytest.mark.parametrize("name", ["a/b", "100%41", "ü ?#"])
    def test_finds_a_rule_of_any_name(self, control: Caller, name: str) -> None:
        control.told("POST", "/script", {"replies": ["a"], "name": name})
        assert control.told("DELETE", f"/script/{quote(name, safe='')}")["name"] == name

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

    def test_tells_requests_by_the_names_that_its_page_lists(self, control: Caller, client: flatfee.Client) -> None:
        ask(client)
        (entry,) = control.told("GET", "/journal?bodies=true")["data"]
        listed = PAGE.read_text("utf-8").partition("Each request of the journal")[2].partition("\n\n")[0]
        assert set(re.findall(r"`(\w+)`", listed)) == entry.keys() | {"bodies"}

    def test_waits_in_vain_for_what_does_not_come(self, control: Caller, client: flatfee.Client) -> None:
        ask(client)
        answer = control.ask("GET", "/journal?wait_for=2&timeout=0.1")
        assert answer.status_code == 504
        message = answer.json()["error"]["message"]
        assert message.startswith("After 0.1 seconds 1 of 2 requests have come to an end:")
        assert "premium-a" in message

    def test_serves_others_while_many_wait(self, control: Caller, client: flatfee.Client) -> None:
        with ThreadPoolExecutor(2 * AT_ONCE) as beside:
            waiting = [beside.submit(control.told, "GET", "/journal?wait_for=1&timeout=50") for _ in range(2 * AT_ONCE)]
            for _ in range(AT_ONCE):
                control.told("GET", "/clock")
            assert not any(each.done() for each in waiting)
            ask(client)
            assert [len(each.result(60)["data"]) for each in waiting] == [1] * len(waiting)

    def test_lets_time_be_skipped_while_somebody_waits(self, control: Caller, client: flatfee.Client) -> None:
        with ThreadPoolExecutor(1) as beside:
            waiting = beside.submit(control.told, "GET", "/journal?wait_for=3&timeout=50")
            control.told("POST", "/script", {"replies": [{"kind": "reply", "text": "late", "delay": 20}]})
            assert [said(ask(client)) for _ in range(3)] == ["late"] * 3  # which would be a minute
            assert [entry["status"] for entry in waiting.result(60)["data"]] == [200] * 3

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


class TestTroubles:
    @pytest.mark.parametrize(
        ("name", "code"),
        [("ledger_down", "store_unavailable"), ("overload", "gateway_overloaded"), ("drain", "gateway_overloaded")],
    )
    def test_last_until_they_are_taken_back(
        self, control: Caller, client: flatfee.Client, name: str, code: str
    ) -> None:
        assert control.told("PATCH", "/troubles", {name: True})[name]
        assert control.told("PATCH", "/troubles", {name: True})[name]
        with pytest.raises(flatfee.APIStatusError) as refused:
            ask(client)
        assert refused.value.code == code
        assert control.told("GET", "/troubles")[name]
        assert not control.told("PATCH", "/troubles", {name: False})[name]
        assert ask(client).receipt is not None

    def test_are_over_after_a_reset(self, control: Caller, client: flatfee.Client) -> None:
        control.told("PATCH", "/troubles", {"ledger_down": True, "overload": True, "drain": True})
        control.told("POST", "/reset")
        assert not any(there is True for there in control.told("GET", "/troubles").values())
        assert ask(client).receipt is not None
