"""Conversations: who says what, in what order, and what becomes of each part."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from typing import Any

import pytest
from tests.server.providers.anthropic.test_request import HI, TOOL, refused, translated

from flatfee.server.providers.anthropic.request import read_request

EPHEMERAL = {"type": "ephemeral"}
PDF = "data:application/pdf;base64,JVBERi0="


def words(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def call(call_id: str, arguments: str = "{}", name: str = "f") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def result(call_id: str, content: Any = "ok") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def said(*calls: dict[str, Any], **message: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls), **message}


def conversation(*messages: dict[str, Any], **body: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = translated(messages=list(messages), tools=[TOOL], **body)["messages"]
    return found


def block(part: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = translated(messages=[{"role": "user", "content": [part]}])["messages"][0]["content"][0]
    return found


def test_instructions_stand_apart_wherever_they_were() -> None:
    late = {"role": "developer", "content": [{**words("Late."), "cache_control": EPHEMERAL}]}
    request = translated(messages=[{"role": "system", "content": "First."}, HI, late])
    assert request["system"] == [words("First."), {**words("Late."), "cache_control": EPHEMERAL}]
    assert len(request["messages"]) == 1


def test_instructions_alone_are_what_the_user_says() -> None:
    request = translated(messages=[{"role": "system", "content": "Write a poem."}])
    assert request["messages"] == [{"role": "user", "content": [words("Write a poem.")]}]
    assert "system" not in request


def test_messages_of_one_role_in_a_row_become_one() -> None:
    answer = {"role": "assistant", "content": "a"}
    assert conversation(HI, HI, answer, {**answer, "content": [words("b")]}, HI) == [
        {"role": "user", "content": [words("Hi"), words("Hi")]},
        {"role": "assistant", "content": [words("a"), words("b")]},
        {"role": "user", "content": [words("Hi")]},
    ]


@pytest.mark.parametrize("nothing", ["", " \n", None, [], [words("")]])
def test_what_says_nothing_is_left_out(nothing: Any) -> None:
    assert conversation(HI, {"role": "assistant", "content": nothing}, HI) == [
        {"role": "user", "content": [words("Hi"), words("Hi")]}
    ]


def test_words_given_to_the_assistant_end_without_a_space() -> None:
    assert conversation(HI, {"role": "assistant", "content": "The answer is: \n"})[-1]["content"] == [
        words("The answer is:")
    ]


def test_a_refusal_is_what_the_assistant_said() -> None:
    assert conversation(HI, {"role": "assistant", "content": None, "refusal": "No."}, HI)[1]["content"] == [
        words("No.")
    ]


def test_results_come_first_and_together_whatever_stood_between() -> None:
    found = conversation(HI, said(call("a"), call("b"), content="Look."), result("a", "1"), HI, result("b", "2"))
    assert [part["type"] for part in found[1]["content"]] == ["text", "tool_use", "tool_use"]
    assert found[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "a", "content": [words("1")]},
        {"type": "tool_result", "tool_use_id": "b", "content": [words("2")]},
        words("Hi"),
    ]


def test_a_result_may_be_an_image_or_nothing() -> None:
    picture = [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]
    found = conversation(HI, said(call("a"), call("b")), result("a", picture), result("b", ""))
    assert found[2]["content"] == [
        {
            "type": "tool_result",
            "tool_use_id": "a",
            "content": [{"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}],
        },
        {"type": "tool_result", "tool_use_id": "b"},
    ]


@pytest.mark.parametrize(
    ("arguments", "becomes"),
    [
        ('{"a": 1.50, "b": [1e400]}', None),
        ("", {}),
        ("  ", {}),
        ("{}", {}),
        ('{"a": ', {"arguments": '{"a": '}),
        ("[1]", {"arguments": "[1]"}),
        ('"x"', {"arguments": '"x"'}),
        ("[" * 10_000, {"arguments": "[" * 10_000}),
    ],
)
def test_arguments_become_an_object_whatever_they_are(arguments: str, becomes: Any) -> None:
    body = {"model": "claude-opus-4-8", "messages": [HI, said(call("a", arguments)), result("a")]}
    encoded = read_request(json.dumps(body).encode()).encoded()
    if becomes is None:
        assert arguments.encode() in encoded  # as the bytes that came
        return
    assert json.loads(encoded)["messages"][1]["content"][0]["input"] == becomes


def test_ids_of_other_providers_become_ids_that_are_taken() -> None:
    first = [said(call("functions.f:0"), call("functions_f_0")), result("functions.f:0"), result("functions_f_0")]
    again = [said(call("functions.f:0")), result("functions.f:0", "later")]
    found = conversation(HI, *first, *again)
    calls = [part["id"] for message in found for part in message["content"] if part["type"] == "tool_use"]
    assert calls == ["functions_f_0", "functions_f_0_2", "functions_f_0_3"]
    assert found[-1]["content"][0]["tool_use_id"] == calls[-1]


def test_a_conversation_with_calls_that_goes_on_without_tools_names_them_and_forbids_them() -> None:
    request = translated(messages=[HI, said(call("a"), call("b", name="g")), result("a"), result("b")])
    assert [tool["name"] for tool in request["tools"]] == ["f", "g"]
    assert request["tool_choice"] == {"type": "none"}


def test_what_is_to_be_cached_is_marked() -> None:
    marked = {"role": "user", "content": "Hi", "cache_control": EPHEMERAL}
    assert conversation(marked)[0]["content"] == [{**words("Hi"), "cache_control": EPHEMERAL}]
    assert block({**words("Hi"), "cache_control": EPHEMERAL}) == {**words("Hi"), "cache_control": EPHEMERAL}
    found = conversation(HI, said(call("a")), {**result("a"), "cache_control": EPHEMERAL})
    assert found[-1]["content"][0]["cache_control"] == EPHEMERAL


@pytest.mark.parametrize(
    ("part", "becomes"),
    [
        (
            {"type": "image_url", "image_url": {"url": "data:image/jpg;base64,AA==", "detail": "high"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "AA=="}},
        ),
        (
            {"type": "image_url", "image_url": "https://example.org/a.png"},
            {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
        ),
        (
            {"type": "file", "file": {"file_data": PDF, "filename": "a.pdf"}},
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
                "title": "a.pdf",
            },
        ),
        (
            {"type": "file", "file": {"file_data": f"data:text/plain;base64,{b64encode('é'.encode()).decode()}"}},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "é"}},
        ),
    ],
)
def test_a_part_becomes_a_block(part: dict[str, Any], becomes: dict[str, Any]) -> None:
    assert block(part) == becomes


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/svg+xml;base64,AA=="}},
        {"type": "image_url", "image_url": {"url": "data:image/png,raw"}},
        {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
        {"type": "image_url", "image_url": {"url": "data:"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "file", "file": {"file_data": "data:text/plain;base64,%%%"}},
        {"type": "file", "file": {"file_data": "data:text/plain;base64,/w=="}},
        {"type": "file", "file": {"file_data": "data:application/zip;base64,AA=="}},
        {"type": "video_url", "video_url": {"url": "https://example.org/a.mp4"}},
    ],
)
def test_a_part_that_cannot_be_sent_is_refused_and_named(part: dict[str, Any]) -> None:
    error = refused(messages=[HI, {"role": "user", "content": [words("x"), part]}])
    assert error.param == "messages[1].content[1]"


@pytest.mark.parametrize("role", ["system", "assistant"])
def test_only_texts_are_taken_of_others_than_the_user(role: str) -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    assert refused(messages=[{"role": role, "content": [picture]}, HI]).param == "messages[0]"


@pytest.mark.parametrize(
    ("message", "blocks"),
    [
        (
            {"reasoning_details": [{"type": "reasoning.text", "text": "t", "signature": "sig-1"}]},
            [{"type": "thinking", "thinking": "t", "signature": "sig-1"}],
        ),
        (
            {
                "reasoning_details": [
                    {
                        "type": "reasoning.text",
                        "index": 0,
                        "format": "anthropic-claude-v1",
                        "text": "",
                        "signature": "",
                    },
                    {"type": "reasoning.text", "index": 0, "text": "a"},
                    {"type": "reasoning.text", "index": 0, "text": "b"},
                    {"type": "reasoning.text", "index": 0, "signature": "sig-1"},
                    {"type": "reasoning.encrypted", "index": 1, "data": "opaque"},
                ]
            },
            [
                {"type": "thinking", "thinking": "ab", "signature": "sig-1"},
                {"type": "redacted_thinking", "data": "opaque"},
            ],
        ),
        (
            {"thinking_blocks": [{"type": "thinking", "thinking": "t", "signature": "sig-1", "cache_control": None}]},
            [{"type": "thinking", "thinking": "t", "signature": "sig-1"}],
        ),
        (
            {"reasoning_details": [{"type": "reasoning.text", "text": "", "signature": "sig-1"}]},
            [{"type": "thinking", "thinking": "", "signature": "sig-1"}],
        ),
        ({"reasoning_details": [{"type": "reasoning.text", "text": "unsigned"}]}, []),
        ({"reasoning_details": [{"type": "reasoning.summary", "summary": "s"}]}, []),
        ({"reasoning_details": [{"type": "reasoning.encrypted", "data": "d", "format": "openai-responses-v1"}]}, []),
        ({"reasoning_details": "nonsense", "thinking_blocks": [7, {"type": "text", "text": "x"}]}, []),
        ({"thinking_blocks": [{"type": [], "thinking": "t", "signature": "sig-1"}]}, []),
        ({"reasoning_details": [None, {"index": []}, {"text": 5}]}, []),
        ({"reasoning_content": "told by a service that signs nothing"}, []),
    ],
)
def test_thoughts_go_back_first_if_they_are_signed(message: dict[str, Any], blocks: list[dict[str, Any]]) -> None:
    found = conversation(HI, {"role": "assistant", "content": "Yes.", **message}, HI)
    assert found[1]["content"] == [*blocks, words("Yes.")]


@pytest.mark.parametrize(
    "messages",
    [
        [HI, *([result("a", "")] * 15_000)],
        [HI, said(*([call("a")] * 15_000)), result("a")],
        [HI, said(content="x", reasoning_details=[{"index": 0, "text": "x" * 200}] * 30_000), HI],
    ],
    ids=["results", "one id", "pieces of a thought"],
)
def test_a_long_conversation_takes_time_in_proportion(messages: list[dict[str, Any]]) -> None:
    """It is translated while nobody else is served; with every pair of them looked at, it took from 4 to 20 s."""
    body = json.dumps({"model": "m", "messages": messages}).encode()
    begun = time.process_time()
    read_request(body).encoded()
    assert time.process_time() - begun < 2
