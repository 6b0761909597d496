"""One program, two imports: what it sees of openai-python and of us is the same.

Where it is not, ``docs/guides/from-openai.md`` says so. Values are compared without what is ``None``.
"""

import json
import pickle
from collections.abc import Callable
from typing import Any

import httpx
import httpx2
import openai
import pytest
from pydantic import BaseModel

import flatfee

HI: Any = [{"role": "user", "content": "hi"}]
CALLS: list[dict[str, Any]] = [
    {"id": f"c{at}", "type": "function", "function": {"name": "Weather", "arguments": json.dumps({"city": city})}}
    for at, city in enumerate(("Lisbon", "Oslo"))
]
LOGPROBS = {
    "content": [{"token": "h", "logprob": -0.1, "bytes": [104], "top_logprobs": [{"token": "h", "logprob": -0.1}]}]
}
CITED = {"type": "url_citation", "url_citation": {"url": "u", "title": "t", "start_index": 0, "end_index": 2}}
MESSAGES: dict[str, dict[str, Any]] = {
    "plain": {"content": "hé", "refusal": None, "annotations": []},
    "tools": {"content": None, "tool_calls": CALLS},
    "custom": {"content": None, "tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "sh", "input": "ls"}}]},
    "json": {"content": '{"city":"Lisbon"}'},
    "refused": {"content": None, "refusal": "No."},
    "aloud": {"content": None, "audio": {"id": "a", "data": "AA==", "expires_at": 1, "transcript": "hi"}},
    "cited": {"content": "hi", "annotations": [CITED]},
}
DELTAS: dict[str, list[dict[str, Any]]] = {
    "plain": [{"role": "assistant", "content": ""}, {"content": "hé"}, {"content": "llo"}],
    "tools": [
        {"role": "assistant"},
        *[{"tool_calls": [{"index": at, **call}]} for at, call in enumerate(CALLS)],
    ],
    "json": [{"role": "assistant", "content": ""}, {"content": '{"ci'}, {"content": 'ty":"Lis'}, {"content": 'bon"}'}],
    "refused": [{"role": "assistant", "refusal": "N"}, {"refusal": "o."}],
}
ENVELOPE: dict[str, Any] = {"id": "chatcmpl-1", "created": 1, "model": "m", "system_fingerprint": "fp"}
USAGE: dict[str, Any] = {
    "prompt_tokens": 3,
    "completion_tokens": 2,
    "total_tokens": 5,
    "prompt_tokens_details": {"cached_tokens": 1},
}


class Weather(BaseModel):
    """Tell the weather."""

    city: str


def events(model: str, *, usage: bool) -> bytes:
    end: dict[str, Any] = {"delta": {}, "finish_reason": "stop"}
    pieces: list[dict[str, Any]] = [*({"delta": delta, "finish_reason": None} for delta in DELTAS[model]), end]
    told: list[dict[str, Any]] = [{**ENVELOPE, "choices": [{"index": 0, **piece}]} for piece in pieces]
    told += [{**ENVELOPE, "choices": [], "usage": USAGE}] * usage
    body = [json.dumps({"object": "chat.completion.chunk", **each}, ensure_ascii=False) for each in told]
    return "".join(f"data: {each}\r\n\r\n" for each in (*body, "[DONE]")).encode()


def answer(asked: dict[str, Any]) -> tuple[int, str, bytes]:
    model = asked["model"]
    if model.isdigit():
        error = {"message": "No.", "type": "invalid_request_error", "param": "x", "code": "bad"}
        return int(model), "application/json", json.dumps({"error": error}).encode()
    if asked.get("stream"):
        usage = bool((asked.get("stream_options") or {}).get("include_usage"))
        return 200, "text/event-stream", events(model, usage=usage)
    message = {"role": "assistant", **MESSAGES[model]}
    logprobs = LOGPROBS if asked.get("logprobs") else None
    choices = [
        {"index": at, "message": message, "finish_reason": "stop", "logprobs": logprobs}
        for at in range(asked.get("n") or 1)
    ]
    body = {"object": "chat.completion", **ENVELOPE, "choices": choices, "usage": USAGE, "vendor": {"x": 1}}
    return 200, "application/json", json.dumps(body).encode()


class Side:
    """One of the two packages, a client of it, and the bodies that were sent."""

    def __init__(self, package: Any, http: Any) -> None:
        self.package = package
        self.sent: list[dict[str, Any]] = []

        def handle(request: Any) -> Any:
            self.sent.append(json.loads(request.content))
            status, kind, content = answer(self.sent[-1])
            return http.Response(status, headers={"content-type": kind, "x-request-id": "req_1"}, content=content)

        http_client = http.Client(transport=http.MockTransport(handle))
        options = {"api_key": "k", "base_url": "http://gateway.test/v1", "max_retries": 0, "http_client": http_client}
        self.client = package.OpenAI(**options)

    def create(self, model: str, **options: Any) -> Any:
        return self.client.chat.completions.create(model=model, messages=HI, **options)


def known(value: Any) -> Any:
    """Return a value without what is ``None``."""
    if isinstance(value, BaseModel):
        return known(value.model_dump(warnings=False))  # openai-python's own parsed models warn
    if isinstance(value, dict):
        return {name: known(part) for name, part in value.items() if part is not None}
    if isinstance(value, list | tuple):
        return [known(part) for part in value]
    return value


def dumped(side: Side) -> Any:
    found = [side.create(model, n=3, seed=1, logprobs=model == "plain") for model in MESSAGES]
    return [(each.model_dump(), each.to_dict(), json.loads(each.to_json()), each._request_id) for each in found]


def attributes(side: Side) -> Any:
    plain, aloud, cited = (side.create(model, logprobs=True) for model in ("plain", "aloud", "cited"))
    message, usage = plain.choices[0].message, plain.usage
    return (
        (plain.vendor, plain.object, plain.service_tier, plain.metadata, isinstance(plain, BaseModel)),
        (usage.prompt_tokens_details.cached_tokens, usage.completion_tokens_details),
        (message.annotations, message.audio, message.tool_calls, message.function_call),
        (plain.choices[0].logprobs.content[0].top_logprobs[0].bytes, plain.choices[0].logprobs.refusal),
        (aloud.choices[0].message.audio.transcript, cited.choices[0].message.annotations[0].url_citation.url),
        (plain == pickle.loads(pickle.dumps(plain)), str(plain) == repr(plain)),
    )


def tools_by_hand(side: Side) -> Any:
    for model in ("tools", "custom"):
        message = side.create(model, tools=[], parallel_tool_calls=True).choices[0].message
        for way in (message, message.to_dict(), message.model_dump(), dict(message)):
            side.client.chat.completions.create(model="plain", messages=[*HI, way])
    return [json.dumps(each, sort_keys=True) for each in side.sent]  # with what is ``None``


def streamed(side: Side) -> Any:
    stream = side.create("plain", stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    told = [(each.to_dict(), each.obfuscation, [piece.delta.audio for piece in each.choices]) for each in chunks]
    return told, stream.response.status_code, list(stream)


def helped(side: Side) -> Any:
    tools = [side.package.pydantic_function_tool(Weather)]
    found: list[Any] = []
    for model, more in (
        ("plain", {}),
        ("refused", {}),
        ("json", {"response_format": Weather}),
        ("tools", {"tools": tools}),
    ):
        with side.client.chat.completions.stream(model=model, messages=HI, **more) as stream:
            for event in stream:
                told = event.model_dump(warnings=False)
                found.append({name: told[name] for name in told if name not in {"chunk", "snapshot", "choice_index"}})
            message = stream.get_final_completion().choices[0].message
            found.append((message.content, message.refusal, message.parsed))
    return [each for each in found if each != {"type": "chunk"}]


def parsed(side: Side) -> Any:
    completions = side.client.chat.completions
    found = completions.parse(model="json", messages=HI, response_format=Weather)
    refused = completions.parse(model="refused", messages=HI, response_format=Weather)
    called = completions.parse(model="tools", messages=HI, tools=[side.package.pydantic_function_tool(Weather)])
    read = [call.function.parsed_arguments for call in called.choices[0].message.tool_calls]
    sent = [{name: part for name, part in each.items() if name != "stream"} for each in side.sent]
    return found, refused, called, read, sent


def refused(side: Side) -> Any:
    found = []
    for status in (400, 401, 403, 404, 409, 422, 429, 500):
        with pytest.raises(side.package.OpenAIError) as caught:
            side.create(str(status))
        error: Any = caught.value
        fields = (error.status_code, error.code, error.type, error.param, error.body, error.request_id)
        found.append((type(error).__name__, fields, error.response.headers["x-request-id"]))
    return found


def raw(side: Side) -> Any:
    response = side.client.chat.completions.with_raw_response.create(model="plain", messages=HI)
    with side.client.chat.completions.with_streaming_response.create(model="plain", messages=HI, stream=True) as unread:
        lines = list(unread.iter_lines())
    shown = (response.status_code, response.request_id, response.text, response.retries_taken, response.method)
    return shown, str(response.url), response.parse(), lines


@pytest.mark.parametrize("program", [dumped, attributes, tools_by_hand, streamed, helped, parsed, refused, raw])
def test_a_program_sees_the_same_of_both(program: Callable[[Side], Any]) -> None:
    theirs, ours = program(Side(openai, httpx2)), program(Side(flatfee, httpx))
    assert known(ours) == known(theirs)
