"""What the simulated model says in words: the same for the same request, in the shapes a real one uses."""

import json
from typing import Any

import pytest
from tests.server.providers.simulation.asking import MODEL, answer, body, events, form, joined, said, user

from flatfee.server.providers import simulation

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def test_the_same_request_gets_the_same_bytes() -> None:
    assert simulation.plain(body()) == simulation.plain(body())
    assert simulation.streamed(body()) == simulation.streamed(body())
    assert simulation.plain(body()) != simulation.plain(body("Something else"))


def test_another_seed_is_another_answer_that_says_the_same() -> None:
    one, other = answer(seed=1), answer(seed=2)
    assert one["id"] != other["id"]
    assert one["choices"] == other["choices"]
    assert simulation.plain(body(seed=1)) == simulation.plain(body(seed=1))


def test_an_answer_has_openais_shape() -> None:
    found = answer()
    assert (found["object"], found["model"]) == ("chat.completion", MODEL)
    assert found["id"].startswith("chatcmpl-")
    (choice,) = found["choices"]
    assert (choice["index"], choice["finish_reason"], choice["message"]["role"]) == (0, "stop", "assistant")
    assert "Tell me of the sea" in choice["message"]["content"]
    usage = found["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens_details"] == {"cached_tokens": 0}


def test_tokens_are_four_bytes_of_text() -> None:
    content = said()["message"]["content"]
    assert answer()["usage"]["completion_tokens"] == -(-len(content) // 4)
    assert answer("x" * 400)["usage"]["prompt_tokens"] == 102


@pytest.mark.parametrize(
    ("content", "about"),
    [
        ([{"type": "text", "text": "Two"}, PICTURE, {"type": "text", "text": "parts"}], "Two parts"),
        ([PICTURE], "nothing"),
        ([], "nothing"),
        ("", "nothing"),
    ],
)
def test_the_last_user_message_is_heard_in_any_shape(content: Any, about: str) -> None:
    assert f"You said: {about}." in said(content)["message"]["content"]


def test_without_a_user_message_it_still_answers() -> None:
    for role in ("system", "developer"):
        found = said(messages=[{"role": role, "content": "Be kind"}])
        assert "You said: nothing." in found["message"]["content"]


@pytest.mark.parametrize(
    "part",
    [PICTURE, {"type": "input_audio", "input_audio": {}}, {"type": "file", "file": {}}],
    ids=["image", "audio", "file"],
)
def test_a_medium_counts_85_tokens_whatever_its_size(part: dict[str, Any]) -> None:
    text = {"type": "text", "text": "What is this?"}
    alone = answer([text])["usage"]["prompt_tokens"]
    assert answer([text, part, part])["usage"]["prompt_tokens"] == alone + 2 * 85


def test_n_answers_are_told_apart() -> None:
    found = answer(n=3)
    assert [choice["index"] for choice in found["choices"]] == [0, 1, 2]
    assert len({choice["message"]["content"] for choice in found["choices"]}) == 3


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_an_answer_is_cut_to_the_tokens_asked_for(name: str) -> None:
    found = answer(**{name: 5})
    (choice,) = found["choices"]
    assert choice["finish_reason"] == "length"
    assert len(choice["message"]["content"]) == 20
    assert found["usage"]["completion_tokens"] == 5
    assert said(**{name: 1000})["finish_reason"] == "stop"


def test_json_is_cut_like_any_text() -> None:
    found = answer(response_format=form({"type": "object", "required": ["name"]}), max_tokens=2)
    assert found["choices"][0]["message"]["content"] == '{"name":'
    assert found["choices"][0]["finish_reason"] == "length"


def test_a_cut_never_splits_a_character() -> None:
    found = answer("é€😀" * 20, max_tokens=30)
    content = found["choices"][0]["message"]["content"]
    assert content.encode().decode() == content
    assert "😀" in content
    assert found["usage"]["completion_tokens"] == 30


@pytest.mark.parametrize(("stop", "end"), [(" model", "simulated"), (["nowhere", "You", " said"], "model. ")])
def test_it_stops_before_the_first_text_that_stops_it(stop: Any, end: str) -> None:
    found = said(stop=stop)
    assert found["finish_reason"] == "stop"
    assert found["message"]["content"].endswith(end)
    assert said(stop=stop, max_tokens=2)["finish_reason"] == "length"
    assert said(stop=[])["message"]["content"].endswith("about it.")


def test_a_beginning_is_gone_on_with() -> None:
    whole = said("Hello")["message"]["content"]
    begun = [user("Hello"), {"role": "assistant", "content": whole[:30]}]
    assert said(messages=begun)["message"]["content"] == whole[30:]
    other = [user("Hello"), {"role": "assistant", "content": "Well, "}]
    assert said(messages=other)["message"]["content"] == whole


def test_reasoning_is_counted_and_cut_first() -> None:
    details = [
        answer(reasoning_effort=effort)["usage"]["completion_tokens_details"]["reasoning_tokens"]
        for effort in ("none", "minimal", "low", "medium", "high")
    ]
    assert details == [0, 0, 16, 32, 64]
    usage = answer(reasoning_effort="low", n=2)["usage"]
    texts = [choice["message"]["content"] for choice in answer(n=2)["choices"]]
    assert usage["completion_tokens"] == 32 + sum(-(-len(text) // 4) for text in texts)
    cut = answer(reasoning_effort="low", max_completion_tokens=10)
    assert cut["choices"][0]["message"]["content"] == ""
    assert cut["choices"][0]["finish_reason"] == "length"
    assert cut["usage"]["completion_tokens_details"]["reasoning_tokens"] == cut["usage"]["completion_tokens"] == 10


def test_logprobs_are_of_tokens_that_add_up_to_the_text() -> None:
    found = said("Grüße 😀", logprobs=True, top_logprobs=3)
    tokens = found["logprobs"]["content"]
    assert "".join(token["token"] for token in tokens) == found["message"]["content"]
    assert len(tokens) == answer("Grüße 😀")["usage"]["completion_tokens"]
    for token in tokens:
        assert bytes(token["bytes"]).decode() == token["token"]
        assert token["top_logprobs"][0]["token"] == token["token"]
        assert len({top["token"] for top in token["top_logprobs"]}) == 3
    assert said(logprobs=True)["logprobs"]["content"][0]["top_logprobs"] == []
    assert said()["logprobs"] is None


def test_a_json_object_is_an_object() -> None:
    assert json.loads(said(response_format={"type": "json_object"})["message"]["content"]) == {}
    assert said(response_format={"type": "text"})["message"]["content"].startswith("This is")


def test_a_json_object_has_the_members_that_the_message_names() -> None:
    asked = "Tell Anna's joke as JSON with 'setup', `punchline` and 'setup' keys, not \"as prose\"."
    content = said(asked, response_format={"type": "json_object"})["message"]["content"]
    assert json.loads(content) == {"setup": "text", "punchline": "text"}


def test_what_came_before_the_last_answer_was_cached_if_it_is_long() -> None:
    def cached(before: int) -> int:
        messages = [user("x" * 4 * before), {"role": "assistant", "content": "x" * 4000}, user("x" * 4000)]
        found: int = answer(messages=messages)["usage"]["prompt_tokens_details"]["cached_tokens"]
        return found

    assert [cached(before) for before in (1000, 1022, 1200)] == [0, 1024, 1152]


def test_an_answer_obeys_the_schema_that_was_asked_for() -> None:
    owner = {"type": "object", "properties": {"rich": {"type": "boolean"}}, "required": ["rich"]}
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "minLength": 6}, "owner": {"$ref": "#/$defs/owner"}},
        "required": ["name", "owner"],
        "$defs": {"owner": owner},
    }
    for choice in answer(response_format=form(schema), n=2)["choices"]:
        assert json.loads(choice["message"]["content"]) == {"name": "text..", "owner": {"rich": True}}


def test_what_does_not_concern_the_answer_is_accepted() -> None:
    extra: dict[str, Any] = {"store": True, "metadata": {"a": "b"}, "prediction": {"type": "content", "content": "x"}}
    extra |= {"modalities": ["text"], "user": "u", "unheard_of": 7, "stop": None, "n": None, "logit_bias": {}}
    assert said(**extra) == said()


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"n": 2},
        {"max_tokens": 7},
        {"response_format": {"type": "json_object"}},
        {"logprobs": True, "top_logprobs": 2},
        {"stop": "simulated"},
    ],
)
def test_a_stream_says_what_the_plain_answer_says(more: dict[str, Any]) -> None:
    assert joined(events(**more)) == answer(**more)["choices"]


def test_usage_is_streamed_when_it_is_asked_for_and_the_same_as_in_a_plain_answer() -> None:
    last = events(stream_options={"include_usage": True}, n=2)[-1]
    assert last["choices"] == []
    # The bodies differ in stream_options only, which are no text.
    assert last["usage"] == answer(n=2)["usage"]
    assert all("usage" not in event for event in events(stream_options=None))
