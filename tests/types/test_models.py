"""Models take what providers send, keep what they do not know, and are values."""

import copy
import json
import pickle
from typing import Any

import httpx
import pytest

import flatfee
from flatfee import NOT_GIVEN, ChatCompletion, ChatCompletionChunk, ChatCompletionMessage, NotGiven
from flatfee.types import ChatCompletionMessageToolCall, ListPage, Model, RoutePlan, Usage
from flatfee.types.base import Origin
from flatfee.types.sentinel import absent

BODY = {
    "id": "c",
    "choices": [
        {
            "index": 0,
            "finish_reason": "because_i_said_so",
            "message": {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{broken"}},
                    {"id": "2", "type": "custom", "custom": {"name": "g", "input": "text"}},
                    {"id": "3", "type": "telepathy", "telepathy": {}},
                ],
                "reasoning_content": "hm",
            },
            "logprobs": {"content": [{"token": "a", "logprob": -0.1, "bytes": [97], "top_logprobs": []}]},
        }
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "cost": 0.1},
    "flatfee": {"request_id": "req_1", "lane": "premium", "fair_use": {"charged": 7}},
    "vendor": {"x": [1]},
}
HEADERS = httpx.Headers({"X-Flatfee-Request-Id": "req_1", "x-flatfee-fair-use-remaining": "9"})


def completion() -> Any:
    found = ChatCompletion.model_validate(BODY)
    found._origin = Origin(HEADERS)
    return found


def test_unknown_fields_and_values_are_kept() -> None:
    found = completion()
    message = found.choices[0].message
    assert found.choices[0].finish_reason == "because_i_said_so"
    assert message.model_extra == {"reasoning_content": "hm"}
    assert [call.type for call in message.tool_calls] == ["function", "custom", "telepathy"]
    assert message.tool_calls[0].function.arguments == "{broken"
    assert message.tool_calls[1].custom.input == "text"
    assert found.choices[0].logprobs.content[0].token == "a"
    assert found.vendor == {"x": [1]}


def test_to_dict_and_to_json_give_back_what_came() -> None:
    found = completion()
    assert found.to_dict() == BODY
    assert json.loads(found.to_json()) == BODY
    assert "\n" not in found.to_json(indent=None)
    assert found.to_dict(exclude_unset=False)["service_tier"] is None
    assert "content" not in found.to_dict(mode="json", exclude_none=True)["choices"][0]["message"]


def test_an_answer_survives_pickle_and_copy_with_its_receipt() -> None:
    found = completion()
    for again in (pickle.loads(pickle.dumps(found)), copy.deepcopy(found), copy.copy(found), found.model_copy()):
        assert again == found
        assert (again.receipt.fair_use_remaining, again.receipt.fair_use.charged) == (9, 7)
        assert again.receipt == found.receipt
        assert again._request_id == "req_1"


def test_a_pickle_does_not_need_the_http_library() -> None:
    assert b"httpx" in pickle.dumps(HEADERS)
    assert b"httpx" not in pickle.dumps(completion())


def test_answers_are_equal_by_content() -> None:
    assert completion() == ChatCompletion.model_validate(BODY)


def test_an_answer_made_by_hand_has_no_receipt() -> None:
    found = ChatCompletion(choices=[])
    assert found.receipt is None
    assert found._request_id is None


def test_a_chunk_may_be_almost_empty() -> None:
    chunk: Any = ChatCompletionChunk.model_validate_json(
        b'{"choices":[{"delta":{"tool_calls":[{"function":{"name":"f"}}]}}]}'
    )
    assert chunk.choices[0].delta.tool_calls[0].function.name == "f"
    assert chunk.receipt is None
    assert ChatCompletionChunk.model_validate_json(b"{}").choices == []
    last: Any = ChatCompletionChunk.model_validate(BODY)
    assert last.receipt.lane == "premium"


def test_gateway_models_take_values_of_tomorrow() -> None:
    assert RoutePlan.model_validate({"lane": "warp", "reason": "mood", "tier": "gold"}).lane == "warp"
    assert Usage.model_validate({"billing": "on_fire"}).billing == "on_fire"
    assert ListPage[Model].model_validate({"data": [{"id": "auto", "x": 1}]}).data[0].model_extra == {"x": 1}


def test_a_route_plan_tells_what_each_failure_leads_to() -> None:
    plan = RoutePlan.model_validate(
        {
            "share": 0.75,
            "then": [{"route": "b", "lane": "fallback", "tier": "premium", "units": 12, "share": 0.5}],
            "on_failure": [{"failure": "gremlins", "next": None, "then_error": "gone_home"}, {"failure": "x"}],
            "skipped": [{"route": "c", "because": "its circuit is open"}],
            "ineligible": None,
        }
    )
    assert (plan.share, plan.then[0].units, plan.then[0].share) == (0.75, 12, 0.5)
    assert (plan.on_failure[0].then_error, plan.on_failure[0].again, plan.on_failure[1].next) == (
        "gone_home",
        False,
        None,
    )
    assert (plan.skipped[0].because, plan.ineligible, plan.error) == ("its circuit is open", [], None)


def test_validation_errors_do_not_show_the_input() -> None:
    with pytest.raises(ValueError, match="choices") as caught:
        ChatCompletion.model_validate({"choices": "secret"})
    assert "secret" not in str(caught.value)


def test_not_given_is_one_false_value() -> None:
    assert not NOT_GIVEN
    assert repr(NOT_GIVEN) == "NOT_GIVEN"
    assert pickle.loads(pickle.dumps(NOT_GIVEN)) is copy.deepcopy(NOT_GIVEN) is NOT_GIVEN
    assert absent(NotGiven())
    assert not absent(None)


def test_openais_own_sentinels_count() -> None:
    openai = pytest.importorskip("openai")
    assert absent(openai.NOT_GIVEN)
    assert absent(openai.omit)


def test_usage_of_no_shape_is_absent_and_loses_nobody_the_answer() -> None:
    completion = ChatCompletion.model_validate({"choices": [], "usage": {"prompt_tokens": "many"}})
    assert completion.usage is None


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("openai.types.chat:ChatCompletion", "ChatCompletion"),
        ("openai.types.chat.chat_completion:Choice", "Choice"),
        ("openai.types.chat:ChatCompletionMessage", "ChatCompletionMessage"),
        ("openai.types.chat:ParsedChatCompletionMessage", "ParsedChatCompletionMessage"),
        ("openai.types.chat:ChatCompletionAudio", "ChatCompletionAudio"),
        ("openai.types.chat.chat_completion_message:Annotation", "Annotation"),
        ("openai.types.chat.chat_completion_message:AnnotationURLCitation", "URLCitation"),
        ("openai.types.chat:ChatCompletionTokenLogprob", "TokenLogprob"),
        ("openai.types.chat:ChatCompletionChunk", "ChatCompletionChunk"),
        ("openai.types.chat.chat_completion_chunk:Choice", "ChunkChoice"),
        ("openai.types.chat.chat_completion_chunk:ChoiceDelta", "ChoiceDelta"),
        ("openai.types.completion_usage:CompletionUsage", "CompletionUsage"),
        ("openai.types.completion_usage:PromptTokensDetails", "PromptTokensDetails"),
        ("openai.types.completion_usage:CompletionTokensDetails", "CompletionTokensDetails"),
        ("openai.types:Model", "Model"),
    ],
)
def test_every_field_of_openais_answers_can_be_read_here(theirs: str, ours: str) -> None:
    """A field that no provider sent is ``None`` there, so code that was written for it asks without asking first."""
    module, _, name = theirs.partition(":")
    fields = getattr(pytest.importorskip(module), name).model_fields
    model: Any = getattr(flatfee.types, ours)
    empty = model.model_construct()
    assert fields
    assert [each for each in fields if each not in model.model_fields and not hasattr(empty, each)] == []


def test_what_was_said_aloud_and_what_it_leans_on_have_attributes() -> None:
    cited = {"type": "url_citation", "url_citation": {"url": "u", "title": "t", "start_index": 0, "end_index": 3}}
    message = ChatCompletionMessage.model_validate({"annotations": [cited], "audio": {"id": "a", "transcript": "hi"}})
    assert message.annotations
    assert message.annotations[0].url_citation
    assert message.annotations[0].url_citation.url == "u"
    assert message.audio
    assert message.audio.transcript == "hi"
    assert message.to_dict() == {"annotations": [cited], "audio": {"id": "a", "transcript": "hi"}}
    odd = ChatCompletionMessage.model_validate({"content": "kept", "annotations": ["?"], "audio": 3})
    assert (odd.content, odd.annotations, odd.audio) == ("kept", None, None)


def test_a_dumped_tool_call_is_of_one_kind() -> None:
    """Sent back as a message, as many programs do, ``"custom": null`` would be a field that a provider may refuse."""
    message = completion().choices[0].message
    assert [sorted(call) for call in message.model_dump()["tool_calls"]] == [
        ["function", "id", "type"],
        ["custom", "id", "type"],
        ["id", "telepathy", "type"],
    ]
    assert json.loads(message.model_dump_json()) == message.model_dump()


def test_a_function_call_may_come_without_arguments() -> None:
    call = ChatCompletionMessageToolCall.model_validate({"function": {"name": "now", "arguments": None}})
    assert call.function
    assert call.function.arguments == ""


def test_an_answer_is_printed_with_its_name() -> None:
    assert str(Model(id="auto")) == repr(Model(id="auto"))
