"""The journal tells what was asked and what became of it, without secrets, and within bounds."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from typing import Any

import pytest
from tests.testing.staged import USER, Agent, Stage, called, chunk, endless, fail_midway, noted, refuse

import flatfee
from flatfee.testing import ScriptedGateway
from flatfee.testing.judging.entry import Entry
from flatfee.testing.judging.journal import Journal
from flatfee.testing.running.exchange import MAX_KEPT, Exchange, Exchanges, Tried, is_secret
from flatfee.testing.scripting.asked import Asked
from flatfee.testing.scripting.played import Failure, Played
from flatfee.wire import AttemptOutcome, ErrorCode


class Plays:
    """An answer, step by step."""

    def __init__(self, played: Played) -> None:
        self._played = played

    def play(self, asked: Asked) -> Played:
        return self._played


# One request


def test_tells_what_came(gateway: ScriptedGateway) -> None:
    with flatfee.Client(api_key=gateway.api_key, base_url=gateway.base_url) as client:
        earlier = [USER, {"role": "assistant", "content": "Hi."}, USER]
        run = client.workflow("run-1")
        run.chat.completions.create(model="auto", messages=earlier, deadline=20, idempotency_key="once", stream=False)
    entry = gateway.journal.last
    assert (entry.number, entry.method, entry.path, entry.query) == (1, "POST", "/v1/chat/completions", "")
    assert (entry.model, entry.stream, entry.turn, entry.workflow) == ("auto", False, 2, "run-1")
    assert entry.messages == earlier
    assert entry.idempotency_key == "once"
    assert entry.deadline_ms is not None
    assert 19_000 < entry.deadline_ms <= 20_000
    assert entry.key == gateway.api_key[-4:]


def test_tells_what_went_back(gateway: ScriptedGateway, agent: Agent) -> None:
    answer = agent.ask().json()
    entry = gateway.journal.last
    assert (entry.status, entry.whole, entry.failed, entry.ending) == (200, True, False, "whole")
    assert entry.text == answer["choices"][0]["message"]["content"]
    assert entry.usage == answer["usage"]
    assert entry.answer_size == len(entry.raw_answer)
    assert entry.receipt is not None
    assert (entry.receipt.lane, entry.receipt.state) == ("premium", "settled")
    assert entry.receipt.request_id == answer["flatfee"]["request_id"]


def test_times_are_in_order_and_of_the_gateways_calendar(gateway: ScriptedGateway, agent: Agent) -> None:
    gateway.advance(3600)
    agent.ask()
    entry = gateway.journal.last
    assert entry.first_byte is not None
    assert entry.ended is not None
    assert entry.tries[0].at is not None
    assert entry.arrived <= entry.tries[0].at <= entry.first_byte <= entry.ended
    assert entry.first_byte_at is not None
    assert entry.ended_at is not None
    assert entry.arrived_at <= entry.first_byte_at <= entry.ended_at <= gateway.now
    assert gateway.now - entry.arrived_at < timedelta(minutes=1)


def test_tells_which_routes_were_tried_and_what_answered_there(gateway: ScriptedGateway, agent: Agent) -> None:
    rule = gateway.script(Plays(Played(before=(Failure(AttemptOutcome.TIMEOUT),))), route="premium-a", name="silence")
    agent.ask()
    rule.remove()
    first, second = gateway.journal.last.tries
    assert (first.route, first.outcome, first.status, first.rule) == (
        *("premium-a", "timeout", None),
        "silence",
    )
    assert (second.route, second.outcome, second.status, second.rule) == ("premium-b", "ok", 200, None)
    assert first.at is not None
    assert second.at is not None
    assert first.at <= second.at


def test_tells_which_routes_were_tried_though_nobody_was_told() -> None:
    tried = [Tried(route="premium-a", at=0.5, rule="silence")]
    (told,) = noted(status=None, left=True, answer=b"", tries=tried).tries
    assert (told.route, told.at, told.rule, told.outcome, told.status) == ("premium-a", 0.5, "silence", None, None)
    assert "premium-a ? by silence" in Journal([noted(status=None, left=True, tries=tried)]).text()


def test_tells_an_error_and_what_to_do(gateway: ScriptedGateway, stage: Stage, agent: Agent) -> None:
    stage.queue += [refuse(ErrorCode.RATE_LIMITED, 3)]
    agent.ask()
    entry = gateway.journal.last
    assert (entry.status, entry.code, entry.retryable, entry.should_retry) == (429, "rate_limited", True, True)
    assert entry.retry_after == 3
    assert (entry.failed, entry.failed_midway, entry.whole) == (True, False, False)


def test_tells_what_of_a_stream_came_before_it_failed(gateway: ScriptedGateway, stage: Stage, agent: Agent) -> None:
    stage.queue += [fail_midway(chunk(content="For"), chunk(tool_calls=[called('{"a')]), chunk(content="ty"))]
    agent.ask(stream=True)
    entry = gateway.journal.last
    assert (entry.status, entry.code, entry.text, entry.answered.events) == (200, "provider_unavailable", "Forty", 4)
    assert (entry.answered.tool_calls[0].name, entry.answered.tool_calls[0].arguments) == ("pay", '{"a')
    assert (entry.failed, entry.failed_midway, entry.whole) == (True, True, False)


def test_tells_that_a_caller_left_and_after_what(gateway: ScriptedGateway, stage: Stage, agent: Agent) -> None:
    stage.queue += [endless(200)]
    agent.http.send(agent.request(stream=True), stream=True).close()
    entry = gateway.journal.wait_for(1).last
    assert (entry.ending, entry.whole, entry.failed) == ("left", False, False)
    assert 0 < entry.answer_size < 200 * 65536
    assert "caller left after" in gateway.journal.text()


def test_tells_of_an_answer_that_is_still_open(gateway: ScriptedGateway, stage: Stage, agent: Agent) -> None:
    stage.queue += [endless(200)]
    stream = agent.http.send(agent.request(stream=True), stream=True)
    journal = gateway.journal.wait_until(lambda journal: journal.last.unread_since is not None, "nobody reads")
    assert (journal.last.ending, journal.last.ended, journal.last.ended_at) == ("open", None, None)
    assert "caller does not read" in journal.text()
    stream.close()


def test_keeps_the_first_mebibyte_and_counts_all(gateway: ScriptedGateway, stage: Stage, agent: Agent) -> None:
    stage.queue += [endless(20)]
    agent.ask(stream=True)
    entry = gateway.journal.last
    assert len(entry.raw_answer) == MAX_KEPT < entry.answer_size


def test_other_requests_are_noted_and_not_numbered(gateway: ScriptedGateway, agent: Agent) -> None:
    agent.http.get("/usage?x=1")
    agent.ask()
    usage, completion = gateway.journal
    assert (usage.number, usage.name, usage.query, usage.model) == (0, "GET /v1/usage", "x=1", None)
    assert (completion.number, completion.name) == (1, "#1")
    assert repr(completion) == "<Entry #1 200  whole>"


def test_a_body_that_is_no_json_is_noted_all_the_same(gateway: ScriptedGateway, agent: Agent) -> None:
    agent.http.post("/chat/completions", content=b"\xff\xfe not JSON")
    entry = gateway.journal.last
    assert (entry.body, entry.messages, entry.model, entry.code) == ({}, [], None, "invalid_request")
    assert "not JSON" in gateway.journal.text(bodies=True)


# Secrets


def test_no_secret_is_kept(gateway: ScriptedGateway, agent: Agent) -> None:
    agent.ask(headers={"x-my-token": "hush-1", "Cookie": "hush-2", "x-goog-api-key": "hush-3", "Private-Key": "hush-6"})
    agent.http.get("/usage?API_key=hush-4&key=hush-5&access%5Fkey=hush-7&limit=1&plain")
    assert gateway.journal.last.query == "API_key=&key=&access%5Fkey=&limit=1&plain"
    told = json.dumps(gateway.journal.to_json(bodies=True)) + gateway.journal.text(bodies=True)
    assert gateway.api_key not in told
    assert "hush" not in told


@pytest.mark.parametrize("name", ["idempotency-key", "x-flatfee-workflow", "user-agent", "x-stainless-retry-count"])
def test_what_rules_need_is_no_secret(name: str) -> None:
    assert not is_secret(name)


def test_prompts_and_answers_are_told_only_where_asked_for(gateway: ScriptedGateway, agent: Agent) -> None:
    agent.ask("My secret plan")
    journal = gateway.journal
    assert "secret plan" not in journal.text() + str(journal) + repr(journal) + json.dumps(journal.to_json())
    assert "secret plan" in journal.text(bodies=True)
    assert "secret plan" in json.dumps(journal.to_json(bodies=True))


# Many requests


def test_a_journal_is_a_copy(gateway: ScriptedGateway, agent: Agent) -> None:
    agent.ask()
    journal = gateway.journal
    agent.ask()
    assert (len(journal), len(journal.now()), len(gateway.journal)) == (1, 2, 2)


def test_requests_are_picked_by_what_they_are(gateway: ScriptedGateway, stage: Stage, agent: Agent) -> None:
    stage.queue += [refuse(ErrorCode.RATE_LIMITED)]
    for workflow in ("a", "b", "a"):
        agent.ask(headers={"x-flatfee-workflow": workflow})
    agent.http.get("/usage")
    journal = gateway.journal
    assert [entry.name for entry in journal.of(workflow="a")] == ["#1", "#3"]
    assert [entry.name for entry in journal.of(path="/v1/usage", method="GET")] == ["GET /v1/usage"]
    assert len(journal.of(key=gateway.api_key)) == 4
    assert [entry.name for entry in journal.completions] == ["#1", "#2", "#3"]
    assert [entry.name for entry in journal.errors] == ["#1"]
    assert [entry.name for entry in journal[1:3]] == ["#2", "#3"]
    assert journal.completions.last.number == 3
    assert repr(journal) == "<Journal of 4 requests, 1 of them failed>"


def test_a_journal_without_requests_says_so(gateway: ScriptedGateway) -> None:
    assert gateway.journal.text() == "No requests."
    with pytest.raises(LookupError, match=r"did the client reach this gateway"):
        _ = gateway.journal.last


# Calls


def calls(*entries: Entry) -> list[list[int]]:
    return [[entry.number for entry in call.entries] for call in Journal(entries).calls]


def test_tries_of_one_call_have_one_idempotency_key() -> None:
    assert calls(noted(1, idempotency_key="a"), noted(2, 1.0, idempotency_key="a", asked={"n": 2})) == [[1, 2]]
    assert calls(noted(1, idempotency_key="a"), noted(2, 1.0, idempotency_key="b")) == [[1], [2]]


def test_the_same_request_after_a_failure_is_the_same_call() -> None:
    limited = ErrorCode.RATE_LIMITED
    assert calls(noted(1, code=limited), noted(2, 1.0, code=limited), noted(3, 2.0), noted(4, 3.0)) == [[1, 2, 3], [4]]
    assert calls(noted(1, code=limited, idempotency_key="a"), noted(2, 1.0, idempotency_key="b")) == [[1, 2]]
    assert calls(noted(1, code=limited, took=5.0), noted(2, 1.0)) == [[1], [2]]
    assert calls(noted(1, left=True), noted(2, 1.0)) == [[1, 2]]
    assert calls(noted(1, code=limited, era=1), noted(2, 1.0, era=2)) == [[1], [2]]


def test_parallel_calls_are_told_apart_by_who_failed_first_or_by_the_count_of_retries() -> None:
    limited, counted = ErrorCode.RATE_LIMITED, "x-stainless-retry-count"
    firsts = (noted(1, code=limited, took=0.5), noted(2, code=limited, took=0.3))
    assert calls(*firsts, noted(3, 1.0), noted(4, 1.0)) == [[1, 4], [2, 3]]
    firsts = (
        noted(1, code=limited, took=0.2, headers={counted: 1}),
        noted(2, code=limited, took=0.3, headers={counted: 0}),
    )
    assert calls(*firsts, noted(3, 1.0, headers={counted: 1}), noted(4, 2.0, headers={counted: 2})) == [[1, 4], [2, 3]]


def test_who_has_more_tries_to_come_is_not_gone_on_with_by_another() -> None:
    limited, counted = ErrorCode.RATE_LIMITED, "x-stainless-retry-count"
    mine: dict[str, Any] = {"idempotency_key": "a"}
    other: dict[str, Any] = {"idempotency_key": "b"}
    assert calls(noted(1, code=limited, **mine), noted(2, 1.0, **other), noted(3, 2.0, **mine)) == [[1, 3], [2]]
    first: dict[str, Any] = {"headers": {counted: 0}}
    second: dict[str, Any] = {"headers": {counted: 1}}
    assert calls(noted(1, code=limited, **first), noted(2, 1.0, **first), noted(3, 2.0, **second)) == [[1, 3], [2]]
    assert calls(noted(1, code=limited, **first), noted(2, 1.0, **first)) == [[1, 2]]
    assert calls(noted(1, code=limited, **first), noted(2, 1.0, headers={counted: 2})) == [[1], [2]]


def test_a_try_follows_the_failure_whose_wait_is_over() -> None:
    told = [{"retry-after": "5"}, {"retry-after": "1"}, {"retry-after": "2"}]
    firsts = [noted(n, took=n / 10, code=ErrorCode.RATE_LIMITED, told=told[n - 1]) for n in (1, 2, 3)]
    assert calls(*firsts, noted(4, 1.3), noted(5, 2.4), noted(6, 5.2)) == [[1, 6], [2, 4], [3, 5]]
    assert calls(*firsts, noted(4, 0.5)) == [[1], [2, 4], [3]]


# Waiting


def test_waits_for_clients_in_other_threads(gateway: ScriptedGateway, agent: Agent) -> None:
    others = [threading.Thread(target=agent.ask, kwargs={"headers": {"x-flatfee-workflow": name}}) for name in "ab"]
    for other in others:
        other.start()
    assert len(gateway.journal.of(workflow="a").wait_for(1)) == 1
    assert len(gateway.journal.wait_for(2)) == 2
    assert len(gateway.journal.completions[:1].wait_for(1)) == 1
    for other in others:
        other.join()


def test_a_wait_may_ask_the_gateway_for_anything(gateway: ScriptedGateway, agent: Agent) -> None:
    other = threading.Thread(target=agent.ask)
    other.start()
    gateway.journal.wait_until(
        lambda journal: journal and gateway.account.usage.window and not gateway.workflows.active
    )
    other.join()


def test_a_wait_in_vain_tells_what_came_instead(gateway: ScriptedGateway, agent: Agent) -> None:
    agent.ask()
    with pytest.raises(TimeoutError, match=r"(?s)not so that 2 requests have come to an end:.*premium-a ok"):
        gateway.journal.wait_for(2, timeout=0.01)


def test_a_script_may_read_the_journal(gateway: ScriptedGateway) -> None:
    """Its functions run in the gateway's own thread."""

    async def read() -> int:
        return len(gateway.journal)

    assert gateway.run(read()) == 0


# Bounds


def exchange(size: int = 0) -> Exchange:
    return Exchange(
        method="POST", path="/v1/chat/completions", query="", headers={}, arrived=0.0, number=0, body=b"x" * size
    )


def test_the_oldest_requests_are_forgotten() -> None:
    exchanges = Exchanges(most=3)
    for _ in range(5):
        exchanges.add(exchange())
    journal = Journal.copied(exchanges, 0.0)
    assert ([entry.number for entry in journal], journal.forgotten) == ([3, 4, 5], 2)
    assert journal.text().startswith("2 earlier requests are not kept.\n")


def test_so_are_those_with_the_oldest_bodies() -> None:
    exchanges = Exchanges(most_bytes=100)
    for size in (60, 60, 30, 300):
        asked = exchange(size)
        exchanges.add(asked)
        exchanges.done(asked, 1.0)
    assert [entry.number for entry in Journal.copied(exchanges, 0.0)] == [4]
    exchanges.add(exchange())
    assert [entry.number for entry in Journal.copied(exchanges, 0.0)] == [5]


def test_a_table_shows_the_last_two_hundred() -> None:
    told = Journal([noted(number, float(number)) for number in range(1, 251)]).text().splitlines()
    assert told[0] == "50 earlier requests are not shown."
    assert (told[2].split()[0], told[-1].split()[0], len(told)) == ("51", "250", 202)


# For people and programs


def test_a_table_has_what_a_failure_report_needs(gateway: ScriptedGateway, stage: Stage, agent: Agent) -> None:
    stage.queue += [refuse(ErrorCode.WORKFLOW_LIMIT, 2)]
    agent.ask(headers={"x-flatfee-workflow": "run-1", "x-stainless-retry-count": "2"}, stream=True)
    agent.ask()
    head, refused, served = gateway.journal.text().splitlines()
    assert head.split() == ["#", "at", "took", "request", "workflow", "lane", "tries", "answer", "ended"]
    assert "premium, streamed, turn 1, retry 2" in refused
    assert "429 workflow_limit retry after 2 s  whole" in refused
    assert "run-1" in refused
    assert "premium  premium-a ok  200" in served


def test_a_table_moves_no_cursor_and_stays_narrow() -> None:
    told = Journal([noted(asked={"model": "\x1b[2J" + "m" * 500})]).text()
    assert "\x1b" not in told
    assert max(map(len, told.splitlines())) < 200


def test_json_has_every_field_that_is_plain(gateway: ScriptedGateway, agent: Agent) -> None:
    agent.ask(headers={"x-flatfee-workflow": "run-1"})
    (told,) = json.loads(json.dumps(gateway.journal.to_json(bodies=True)))
    assert (told["number"], told["workflow"], told["status"], told["whole"]) == (1, "run-1", 200, True)
    assert told["tries"][0] | {"at": 0} == {"route": "premium-a", "at": 0, "rule": None, "outcome": "ok", "status": 200}
    assert told["receipt"]["state"] == "settled"
    assert told["body"]["model"] == "premium"
    assert json.loads(told["answer"])["choices"][0]["message"]["content"] == told["text"]
