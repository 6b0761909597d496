"""Every error code survives the whole way: server → wire → exception."""

from __future__ import annotations

import httpx
import pytest

import flatfee
from flatfee import errors
from flatfee.server.call import Call, Receive, Scope, Send
from flatfee.server.faults import Fault
from flatfee.wire import ERRORS, ErrorCode


def failing(code: ErrorCode, *, midway: bool = False) -> flatfee.AsyncClient:
    """A client of a gateway whose every answer is one error."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        call = Call(scope, receive, send, "req_00000000000000000000000000", 0.0)
        if midway:
            await call.start_stream()
            await call.write(
                b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[]}\n\n'
            )
        await call.fail(Fault(code, f"This is {code}.", param="model", retry_after=7))

    http = httpx.AsyncClient(transport=httpx.ASGITransport(app))
    return flatfee.AsyncClient(api_key="k" * 32, base_url="http://gateway.test/v1", http_client=http, max_retries=0)


@pytest.mark.parametrize("code", list(ErrorCode))
async def test_a_code_becomes_its_exception_with_everything_it_carried(code: ErrorCode) -> None:
    rule = ERRORS[code]
    async with failing(code) as client:
        with pytest.raises(errors.CODE_CLASSES[code]) as caught:
            await client.usage.retrieve()
    error = caught.value
    assert type(error) is errors.CODE_CLASSES[code]
    assert (error.code, error.status_code, error.type, error.param) == (code, rule.status, rule.type, "model")
    assert error.message == f"This is {code}."
    assert error.retryable is rule.retryable
    assert error.retry_after == (7.0 if rule.retryable else None)
    assert error.request_id == "req_00000000000000000000000000"
    assert error.receipt is not None
    assert error.receipt.state == "refused"


@pytest.mark.parametrize("code", list(ErrorCode))
async def test_a_code_in_mid_stream_becomes_the_same_exception(code: ErrorCode) -> None:
    async with failing(code, midway=True) as client:
        stream = await client.chat.completions.create(model="auto", messages=[], stream=True)
        with pytest.raises(errors.CODE_CLASSES[code]) as caught:
            async for _ in stream:
                pass
    assert (caught.value.code, caught.value.status_code) == (code, ERRORS[code].status)
    assert caught.value.receipt is not None
