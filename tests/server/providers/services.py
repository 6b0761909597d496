"""The well-known services as their documentation and users describe them: one fake, told each one's ways as data.

What a service refuses, how it streams, where it tells usage and how its errors look is written here apart from
``providers.rows``, so that a row is held against the service and not against itself. Where each way was read stands
in the rows, beside the quirk.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.server.fakes_upstream import Upstream, on_a_port

KEY = "canary-upstream-key"
ANSWER = ("canary-", "answer")
SDK = frozenset({"metadata", "prompt_cache_key", "safety_identifier", "store", "user"})
OPENAI_ROLES = frozenset({"developer", "system", "user", "assistant", "tool"})
OLD_ROLES = OPENAI_ROLES - {"developer"}
RETRY = {"retry-after": "20"}
EVENTS = {"content-type": "text/event-stream"}


@dataclass(frozen=True, kw_only=True)
class Told:
    """An error: its status, body and headers, and the words that a caller is told where it is passed on."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    words: str = ""


def openai_error(message: str, code: object = None, kind: str = "invalid_request_error", **more: object) -> Any:
    return {"error": {"message": message, "type": kind, "param": None, "code": code, **more}}


@dataclass(frozen=True, kw_only=True)
class Service:
    """The ways of one service; the defaults are OpenAI's."""

    path: str = "/v1/chat/completions"
    key: tuple[str, str] | None = ("authorization", f"Bearer {KEY}")
    wrong_key: Told = Told(status=401, body=openai_error("Incorrect API key provided: no***pe.", "invalid_api_key"))
    limits: frozenset[str] = frozenset({"max_completion_tokens", "max_tokens"})
    ignores_other_limits: bool = False
    refuses: frozenset[str] = frozenset()
    roles: frozenset[str] = OPENAI_ROLES
    tool_names: bool = True
    knows_of_answers: frozenset[str] | None = None
    wants_thoughts: bool = False
    refused: Told
    too_large: Told
    busy: Told
    usage: Mapping[str, Any] = field(default_factory=lambda: {"prompt_tokens": 10, "completion_tokens": 2})
    counted: tuple[int, int, int] = (10, 2, 0)
    usage_in_streams: Literal["asked", "last", "every"] = "asked"
    prelude: bytes = b""
    finish: str = "stop"
    done: bool = True
    thoughts: str | None = None
    goes_on: Literal["plain", "prefix", "continue"] | None = "plain"

    def goes_on_from(self, asked: Mapping[str, Any]) -> bool:
        """Tell whether a request that ends with a begun answer asks for its rest in the service's own way."""
        prefixed = asked["messages"][-1].get("prefix") is True
        continued = asked.get("continue_final_message") is True and asked.get("add_generation_prompt") is False
        way = "prefix" if prefixed else "continue" if continued else "plain"
        return way == self.goes_on

    def objection(self, asked: Mapping[str, Any]) -> Told | None:
        """Return how a request is refused, if it is."""
        if asked["messages"][-1]["role"] == "assistant" and not self.goes_on_from(asked):
            return self.refused
        limits = asked.keys() & {"max_completion_tokens", "max_tokens"}
        if asked.keys() & self.refuses or (limits - self.limits and not self.ignores_other_limits):
            return self.refused
        messages = asked["messages"]
        odd = any(message["role"] not in self.roles for message in messages)
        named = not self.tool_names and any("name" in message for message in messages)
        answers = [message for message in messages if message["role"] == "assistant"]
        known = self.knows_of_answers
        unknown = known is not None and any(message.keys() - {"role", "content", *known} for message in answers)
        calls = [call for message in answers for call in message.get("tool_calls", ())]
        unknown |= known is not None and any(call.keys() - {"id", "type", "function", "index"} for call in calls)
        called = self.wants_thoughts and any("tool_calls" in message for message in answers)
        thoughtless = called and any("reasoning_content" not in message for message in answers)
        return self.refused if odd or named or unknown or thoughtless else None


_TPM = openai_error("Rate limit reached.", "rate_limit_exceeded", "tokens")
_OVERFLOW = openai_error("Your input exceeds the context window of this model.", "context_length_exceeded")
_UNKNOWN = openai_error("Unrecognized request argument supplied: top_k")
_OPENAI = Service(
    goes_on=None,
    limits=frozenset({"max_completion_tokens"}),
    refused=Told(status=400, body=_UNKNOWN, words="Unrecognized request argument supplied: top_k"),
    too_large=Told(status=400, body=_OVERFLOW),
    busy=Told(status=429, body=_TPM, headers=RETRY),
    usage={"prompt_tokens": 10, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}},
    counted=(10, 2, 4),
)
_VLLM_400 = {"object": "error", "type": "BadRequestError", "param": None, "code": 400}
_FINDING = {"type": "extra_forbidden", "loc": ["body", "top_k"], "msg": "Extra inputs are not permitted", "input": 5}

SERVICES: Mapping[str, Service] = {
    "openai": _OPENAI,
    "openai-compatible": Service(
        key=None,
        limits=frozenset({"max_tokens"}),
        ignores_other_limits=True,
        refused=Told(status=422, body={"detail": [_FINDING]}, words="body.top_k: Extra inputs are not permitted"),
        too_large=Told(status=400, body=_OVERFLOW),
        busy=Told(status=503, body="<html>busy</html>", headers=RETRY),
    ),
    "azure-openai": Service(
        goes_on=None,
        path="/openai/v1/chat/completions",
        key=("api-key", KEY),
        wrong_key=Told(status=401, body={"error": {"code": "401", "message": "Access denied due to invalid key."}}),
        limits=frozenset({"max_completion_tokens"}),
        refused=Told(
            status=400,
            body=openai_error("The response was filtered", "content_filter", status=400),
            words="The response was filtered",
        ),
        too_large=Told(status=400, body=_OVERFLOW),
        busy=Told(status=429, body={"error": {"code": "429", "message": "Rate limit is exceeded."}}, headers=RETRY),
        prelude=b'data: {"choices":[],"prompt_filter_results":[{"prompt_index":0}],"usage":null}\n\n',
    ),
    "openrouter": Service(
        path="/api/v1/chat/completions",
        wrong_key=Told(status=401, body={"error": {"code": 401, "message": "User not found."}}),
        refused=Told(
            status=403,
            body={"error": {"code": 403, "message": "Input flagged", "metadata": {"reasons": ["violence"]}}},
            words="Input flagged",
        ),
        too_large=Told(
            status=400,
            body={"error": {"code": 400, "message": "This endpoint's maximum context length is 8192 tokens."}},
        ),
        busy=Told(status=429, body={"error": {"code": 429, "message": "Rate limited"}}, headers=RETRY),
        prelude=b": OPENROUTER PROCESSING\n\n" * 3,
    ),
    "groq": Service(
        path="/openai/v1/chat/completions",
        refuses=frozenset({"metadata", "prompt_cache_key", "store", "logprobs", "logit_bias", "top_logprobs"}),
        tool_names=False,
        knows_of_answers=frozenset({"function_call", "name", "reasoning", "tool_calls"}),
        refused=Told(
            status=400, body={"error": {"message": "property 'x' is unsupported", "type": "t"}}, words="property 'x'"
        ),
        too_large=Told(
            status=400,
            body=openai_error("Please reduce the length of the messages or completion.", "context_length_exceeded"),
        ),
        busy=Told(status=413, body=_TPM),
    ),
    "together": Service(
        limits=frozenset({"max_tokens"}),
        refused=Told(status=400, body=_UNKNOWN, words="Unrecognized"),
        too_large=Told(
            status=403,
            body=openai_error("`inputs` tokens + `max_new_tokens` must be <= 4097. Given: 80125 `inputs` tokens"),
        ),
        busy=Told(status=503, body=openai_error("Engine overloaded", None, "overloaded"), headers=RETRY),
        usage_in_streams="last",
    ),
    "fireworks": Service(
        path="/inference/v1/chat/completions",
        limits=frozenset({"max_tokens"}),
        refuses=frozenset({"safety_identifier", "store"}),
        knows_of_answers=frozenset({"reasoning_content", "tool_calls"}),
        tool_names=False,
        refused=Told(
            status=400,
            body={"error": {"object": "error", "message": "Extra inputs are not permitted, field: 'top_k'"}},
            words="Extra inputs are not permitted, field: 'top_k'",
        ),
        too_large=Told(
            status=400,
            body={
                "error": {
                    "object": "error",
                    "message": "The prompt is too long: 40177, model maximum context length: 1",
                }
            },
        ),
        busy=Told(status=412, body={"error": {"object": "error", "message": "Account is suspended"}}),
        usage_in_streams="last",
    ),
    "deepseek": Service(
        goes_on="prefix",
        wants_thoughts=True,
        path="/chat/completions",
        limits=frozenset({"max_tokens"}),
        ignores_other_limits=True,
        roles=OLD_ROLES,
        refused=Told(
            status=422,
            body=openai_error("Failed to deserialize the JSON body", "invalid_request_error"),
            words="Failed",
        ),
        too_large=Told(
            status=400,
            body=openai_error("This model's maximum context length is 131072 tokens.", "invalid_request_error"),
        ),
        busy=Told(status=402, body=openai_error("Insufficient Balance", "invalid_request_error", "unknown_error")),
        usage={
            "prompt_tokens": 10,
            "completion_tokens": 2,
            "prompt_cache_hit_tokens": 6,
            "prompt_cache_miss_tokens": 4,
        },
        counted=(10, 2, 6),
        prelude=b": keep-alive\n\n",
        thoughts="reasoning_content",
    ),
    "mistral": Service(
        goes_on="prefix",
        knows_of_answers=frozenset({"prefix", "tool_calls"}),
        limits=frozenset({"max_tokens"}),
        wrong_key=Told(status=401, body={"detail": "Unauthorized"}),
        refuses=frozenset({"stream_options", "seed", "store", "user", "service_tier", "safety_identifier"}),
        roles=OLD_ROLES,
        refused=Told(
            status=422,
            body={"object": "error", "message": {"detail": [_FINDING]}, "type": "invalid_request_error", "code": None},
            words="body.top_k: Extra inputs are not permitted",
        ),
        too_large=Told(
            status=400,
            body={
                "object": "error",
                "message": "Prompt contains 300000 tokens, too large for model with 131072 maximum context length",
                "type": "invalid_request_error",
                "code": "3051",
            },
        ),
        busy=Told(status=429, body={"object": "error", "message": "Requests rate limit exceeded"}, headers=RETRY),
        usage_in_streams="last",
    ),
    "xai": Service(
        wrong_key=Told(
            status=400,
            body={"code": "Client specified an invalid argument", "error": "Incorrect API key provided: no***pe."},
        ),
        refuses=frozenset({"presence_penalty", "frequency_penalty", "stop"}),
        refused=Told(
            status=400,
            body={"code": "Client specified an invalid argument", "error": "Model does not support parameter stop."},
            words="Model does not support parameter stop.",
        ),
        too_large=Told(
            status=400,
            body={
                "code": "x",
                "error": "This model's maximum prompt length is 131072 but the request contains 537812.",
            },
        ),
        busy=Told(status=429, body={"code": "x", "error": "Too many requests"}, headers=RETRY),
        usage={
            "prompt_tokens": 10,
            "completion_tokens": 2,
            "total_tokens": 19,
            "completion_tokens_details": {"reasoning_tokens": 7},
        },
        counted=(10, 9, 0),
        usage_in_streams="every",
        thoughts="reasoning_content",
    ),
    "gemini": Service(
        path="/v1beta/openai/chat/completions",
        wrong_key=Told(
            status=400,
            body=[
                {"error": {"code": 400, "message": "API key not valid. Please pass a valid API key.", "status": "I"}}
            ],
        ),
        usage={"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 19},
        counted=(10, 9, 0),
        refuses=SDK,
        refused=Told(
            status=400,
            body=[{"error": {"code": 400, "message": 'Unknown name "top_k": Cannot find field.', "status": "I"}}],
            words='Unknown name "top_k": Cannot find field.',
        ),
        too_large=Told(
            status=400,
            body=[
                {
                    "error": {
                        "code": 400,
                        "message": "The input token count exceeds the maximum number of tokens allowed (1)",
                    }
                }
            ],
        ),
        busy=Told(
            status=429,
            body=[{"error": {"code": 429, "message": "Quota", "details": [{"@type": "x"}, {"retryDelay": "33s"}]}}],
        ),
    ),
    "anthropic-compatible": Service(
        goes_on=None,
        wrong_key=Told(status=401, body=openai_error("invalid x-api-key", None, "authentication_error")),
        refused=Told(status=400, body=openai_error("n: must be 1"), words="n: must be 1"),
        too_large=Told(status=400, body=openai_error("prompt is too long: 209353 tokens > 199999 maximum")),
        busy=Told(status=529, body=openai_error("Overloaded", None, "overloaded_error")),
    ),
    "ollama": Service(
        key=None,
        limits=frozenset({"max_tokens"}),
        ignores_other_limits=True,
        roles=OLD_ROLES,
        refused=Told(status=400, body=openai_error("invalid message format"), words="invalid message format"),
        too_large=Told(status=400, body=openai_error("prompt too long; exceeded max context length by 4096 tokens")),
        busy=Told(status=503, body={"error": "server busy, please try again"}, headers=RETRY),
        thoughts="reasoning",
    ),
    "vllm": Service(
        goes_on="continue",
        limits=frozenset({"max_tokens"}),
        wrong_key=Told(status=401, body={"error": "Unauthorized"}),
        roles=OLD_ROLES,
        refused=Told(
            status=400,
            body={**_VLLM_400, "message": "Unexpected message role."},
            words="Unexpected message role.",
        ),
        too_large=Told(
            status=400, body={**_VLLM_400, "message": "This model's maximum context length is 4096 tokens."}
        ),
        busy=Told(status=503, body={"detail": "Service unavailable"}, headers=RETRY),
        thoughts="reasoning_content",
    ),
    "sglang": Service(
        goes_on="continue",
        key=None,
        limits=frozenset({"max_tokens"}),
        ignores_other_limits=True,
        roles=OLD_ROLES,
        refused=Told(status=400, body={**_VLLM_400, "message": "'role' must be one of"}, words="'role' must be one of"),
        too_large=Told(
            status=400,
            body={**_VLLM_400, "message": "You passed 9 tokens. However, the model's context length is only 4 tokens."},
        ),
        busy=Told(status=503, body={"object": "error", "message": "The request queue is full."}, headers=RETRY),
        thoughts="reasoning_content",
    ),
    "llama-cpp": Service(
        limits=frozenset({"max_tokens"}),
        wrong_key=Told(status=401, body=openai_error("Invalid API Key", 401, "authentication_error")),
        roles=OLD_ROLES,
        refused=Told(status=400, body=openai_error("Cannot use n with stream", 400), words="Cannot use n"),
        too_large=Told(
            status=400,
            body=openai_error(
                "the request exceeds the available context size", 400, "exceed_context_size_error", n_ctx=1
            ),
        ),
        busy=Told(status=503, body=openai_error("Loading model", 503, "unavailable_error"), headers=RETRY),
        thoughts="reasoning_content",
        done=False,
    ),
    "lm-studio": Service(
        key=None,
        limits=frozenset({"max_tokens"}),
        ignores_other_limits=True,
        roles=OLD_ROLES,
        refused=Told(status=400, body={"error": "Unsupported role"}, words="Unsupported role"),
        too_large=Told(
            status=400,
            body={
                "error": "The number of tokens to keep is greater than the context length (n_keep: 13055>= n_ctx: 4)."
            },
        ),
        busy=Told(status=503, body={"error": "busy"}, headers=RETRY),
    ),
}
"""``kind`` → the service that its row is for."""


class Fake(Upstream):
    """One service on loopback. What it does follows from the model it is asked for: ``busy``, ``small``, ``odd``."""

    def __init__(self, service: Service) -> None:
        super().__init__(self._reply)
        self._service = service
        self.asked: list[dict[str, Any]] = []

    async def _reply(self, writer: asyncio.StreamWriter) -> None:
        first, *lines = self.heads[-1].decode().split("\r\n")[:-2]
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        writer.write(self._answered(first.split()[1], headers, json.loads(self.bodies[-1])))

    def _answered(self, path: str, headers: Mapping[str, str], body: dict[str, Any]) -> bytes:
        service = self._service
        self.asked.append(body)
        if path != service.path:
            return _http(404, b"{}")
        if service.key is not None and headers.get(service.key[0]) != service.key[1]:
            return _told(service.wrong_key)
        refusals = {"busy": service.busy, "small": service.too_large, "odd": service.refused}
        objection = refusals.get(body["model"]) or service.objection(body)
        if objection is not None:
            return _told(objection)
        if body.get("stream"):
            events = self._events(body)
            return _http(200, b"".join(events[:3] if body["model"] == "cut" else events), EVENTS)
        message = {"role": "assistant", "content": "".join(ANSWER)}
        choice = {"index": 0, "message": message, "finish_reason": service.finish}
        return _http(200, json.dumps({"id": "c", "choices": [choice], "usage": service.usage}).encode())

    def _events(self, body: Mapping[str, Any]) -> Sequence[bytes]:
        service = self._service
        asked = (body.get("stream_options") or {}).get("include_usage")
        begun = body["messages"][-1]["role"] == "assistant"
        pieces = ANSWER[1:] if begun else ANSWER
        deltas = [{"role": "assistant", "content": ""}, *({"content": piece} for piece in pieces)]
        if service.thoughts and not begun and body["model"] != "cut":  # an answer with thoughts is not gone on with
            deltas.insert(1, {service.thoughts: "canary-thought", "content": ""})
        chunks: list[dict[str, Any]] = [
            {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": None}], "usage": None}
            for delta in deltas
        ]
        chunks.append({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": service.finish}]})
        if service.usage_in_streams == "every":
            chunks = [{**chunk, "usage": service.usage} for chunk in chunks]
        elif service.usage_in_streams == "last":
            chunks[-1]["usage"] = service.usage
        elif asked:
            chunks.append({"id": "c", "choices": [], "usage": service.usage})
        events = [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks]
        return [service.prelude, *events, b"data: [DONE]\n\n" if service.done else b""]


def _told(error: Told) -> bytes:
    body = error.body if isinstance(error.body, str) else json.dumps(error.body)
    return _http(error.status, body.encode(), error.headers)


def _http(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    lines = [f"{name}: {value}" for name, value in {"content-type": "application/json", **(headers or {})}.items()]
    head = "\r\n".join([f"HTTP/1.1 {status} Told", *lines, f"content-length: {len(body)}", "", ""])
    return head.encode() + body


def serving(service: Service) -> AbstractAsyncContextManager[Fake]:
    """Run a service on loopback."""
    return on_a_port(Fake(service))
