"""Ways of real providers that OpenAI's API does not have, as they were seen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType

import pytest

from flatfee.server.answers.plain import read_refusal
from flatfee.server.answers.stream import RelayedStream
from flatfee.server.meter import Meter
from flatfee.server.settings import RouteSettings
from flatfee.server.stages.failures import rejected
from flatfee.server.stages.passing import _hear_out
from flatfee.wire import AttemptOutcome, Tier

ROUTE = RouteSettings(name="local", provider="llama", model="gemma", tier=Tier.ECONOMY)
LLAMA_OVERFLOW = (
    b'{"error":{"code":400,"message":"the request exceeds the available context size",'
    b'"type":"exceed_context_size_error","n_prompt_tokens":5000,"n_ctx":4096}}'
)
FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'


class Refusing:
    status = 400
    headers: Mapping[str, str] = MappingProxyType({})

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read(self) -> bytes:
        return self._body

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self._body


async def test_llama_cpp_says_in_the_type_that_the_context_is_too_large() -> None:
    failed = await rejected(ROUTE, Refusing(LLAMA_OVERFLOW), lambda: 0.0)
    assert failed.outcome is AttemptOutcome.CONTEXT_OVERFLOW
    assert failed.refusal is not None
    assert failed.refusal.error["code"] == "400"


@pytest.mark.parametrize("code", ["[]", "{}", "7", "true", "null"])
async def test_a_code_of_any_type_is_passed_on_as_text(code: str) -> None:
    failed = await rejected(ROUTE, Refusing(b'{"error":{"message":"no","code":%s}}' % code.encode()), lambda: 0.0)
    assert failed.outcome is AttemptOutcome.REFUSED
    assert failed.refusal is not None
    assert isinstance(failed.refusal.error["code"], str | None)


def test_fields_that_openai_does_not_know_stay() -> None:
    assert read_refusal(LLAMA_OVERFLOW)["n_ctx"] == 4096


@pytest.mark.parametrize("behind", [b'data: {"error":{"message":"late"}}\n\n', b"data: {broken\n\n" * 9, b""])
async def test_what_comes_behind_the_last_finish_reason_does_not_spoil_a_whole_answer(behind: bytes) -> None:
    relayed = RelayedStream(include_usage=False)
    relayed.feed(FINISH)

    async def rest() -> AsyncIterator[bytes]:
        yield behind

    assert await _hear_out(rest(), relayed, float("inf"), Meter()) == b""
    assert relayed.whole
    assert relayed.tail(b"{}").endswith(b'"flatfee":{}}\n\ndata: [DONE]\n\n')
