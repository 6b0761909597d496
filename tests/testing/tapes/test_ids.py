"""Ids on tapes do not change from one recording to the next, and lead from an answer to what follows on it."""

from __future__ import annotations

import json
from typing import Any

from tests.server.fakes_upstream import a_route

from flatfee.testing.tapes.matching import Comparison, differences
from flatfee.testing.tapes.redaction import Redaction
from flatfee.testing.tapes.take import Developer, Take
from flatfee.testing.tapes.tape import Tape

QUESTION = {"role": "user", "content": "weather?"}


def developed(developer: Developer, messages: list[Any], answer: dict[str, Any]) -> Tape:
    body = json.dumps({"model": "m", "messages": messages}).encode()
    take = Take(route=a_route(), body=body, stream=False, began=0.0)
    take.head(200, {"x-request-id": f"req-of-{answer['id']}"}, 0.0)
    take.part(json.dumps(answer).encode(), 0.0)
    take.end(0.0, whole=True)
    return developer.tape(take, "2026-11-25")


def conversation(run: str) -> list[Tape]:
    """Return two tapes: a tool is called, and its result is answered. Ids are another run's each time."""
    developer = Developer(redaction=Redaction.of())
    calls = [{"id": f"{run}D681PevKs", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}]
    asks = {"role": "assistant", "content": None, "tool_calls": calls}
    first = {"id": f"chatcmpl-{run}aaaaaaaa", "system_fingerprint": f"fp_{run}", "choices": [{"message": asks}]}
    result = {"role": "tool", "tool_call_id": f"{run}D681PevKs", "content": "sunny"}
    said = {"role": "assistant", "content": f"See {run}D681PevKs."}
    last = {"id": f"chatcmpl-{run}bbbbbbbb", "choices": [{"message": said}]}
    return [developed(developer, [QUESTION], first), developed(developer, [QUESTION, asks, result], last)]


def test_ids_are_the_same_in_every_recording() -> None:
    assert conversation("x") == conversation("y")


def test_an_id_is_the_same_in_an_answer_and_in_what_follows() -> None:
    first, second = conversation("x")
    (called,) = first.answer.body["choices"][0]["message"]["tool_calls"]
    _, asks, result = second.request["messages"]
    assert called["id"].startswith("call_")
    assert asks["tool_calls"][0]["id"] == result["tool_call_id"] == called["id"]
    assert second.answer.body["choices"][0]["message"]["content"] == f"See {called['id']}."


def test_answers_have_ids_of_their_own() -> None:
    first, second = conversation("x")
    assert first.answer.body["id"] != second.answer.body["id"]
    assert first.answer.headers != second.answer.headers
    assert first.answer.body["system_fingerprint"] == "fp_recorded"


def test_a_recorded_tape_is_not_given_other_ids_when_it_is_recorded_again() -> None:
    _, second = conversation("x")
    again = developed(
        Developer(redaction=Redaction.of()),
        list(second.request["messages"]),
        {"id": "chatcmpl-zzzzzzzzz", "choices": []},
    )
    assert again.request == second.request


def test_a_request_is_matched_whatever_its_ids_are() -> None:
    compare = Comparison()
    (_, one), (_, other) = conversation("x"), conversation("y")
    theirs = json.loads(json.dumps(other.request).replace('"call_', '"toolu_'))
    assert list(differences(compare.wanted(one.request), compare.wanted(theirs))) == []
