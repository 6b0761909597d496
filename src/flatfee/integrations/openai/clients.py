"""openai-python's clients, set up for a gateway and with our errors. How they send and repeat stays theirs.

Only what openai-python leaves to subclasses is overridden: what makes its errors, its requests' options
and its streams. ``OPENAI_*`` is never used: a key for one service must not travel to another by accident.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any, Self, TypedDict, Unpack

import openai
from openai.types.chat import ChatCompletion
from pydantic import BaseModel

from flatfee.client.arguments import ApiKey, AsyncApiKey
from flatfee.client.config import ClientConfig
from flatfee.client.resources.options import deadline, gateway_headers
from flatfee.collecting import active, note
from flatfee.errors import APIResponseValidationError, from_wire
from flatfee.integrations.openai.deadline import budgeted, current
from flatfee.integrations.openai.errors import both, named
from flatfee.integrations.openai.streams import AsyncReceiptStream, ReceiptStream, watched
from flatfee.receipt import Receipt
from flatfee.wire import Header


class FlatfeeOptions(TypedDict, total=False):
    """What travels to the gateway with every call of a client; ``deadline`` in seconds, for all tries of a call."""

    workflow: str | None
    task: str | None
    on_exhausted: str | None
    deadline: float | None


class _ForGateway:
    """What both kinds of client override alike. It stands before openai-python's class among the bases."""

    def with_flatfee(self, **options: Unpack[FlatfeeOptions]) -> Self:
        """Return a client with other options for the gateway over the same connections.

        Raises:
            ConfigurationError: a value that the gateway would refuse.
        """
        other: Self = self.with_options(default_headers=_headers(options))  # type: ignore[attr-defined]  # of the other base
        return other

    def _should_retry(self, response: Any) -> bool:
        return _worth_waiting(self, response) and super()._should_retry(response)  # type: ignore[misc]  # likewise

    def _calculate_retry_timeout(self, *args: Any, **kwargs: Any) -> float:
        return _shortened(super()._calculate_retry_timeout(*args, **kwargs))  # type: ignore[misc]  # likewise

    def _make_status_error(self, err_msg: str, *, body: object, response: Any) -> Any:
        del err_msg  # begins with the status, where some frameworks look for numbers
        return _refusal(body, response)


class OpenAI(_ForGateway, openai.OpenAI):
    """``openai.OpenAI`` for a gateway.

    Args:
        api_key: else ``FLATFEE_API_KEY``.
        base_url: else ``FLATFEE_BASE_URL``, else the hosted service.
        workflow: the agent run that calls belong to.
        task: what is being done, such as ``"review"``.
        on_exhausted: ``"fail"`` to get an error rather than leave premium.
        deadline: seconds for all tries of a call, until its response begins.
        default_headers: sent with every request, over those of ``FLATFEE_CUSTOM_HEADERS``.
        options: everything else that ``openai.OpenAI`` takes.

    Raises:
        ConfigurationError: names the bad value and the cure.
    """

    def __init__(
        self,
        *,
        api_key: ApiKey | None = None,
        base_url: Any = None,
        workflow: str | None = None,
        task: str | None = None,
        on_exhausted: str | None = None,
        deadline: float | None = None,
        default_headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        given = FlatfeeOptions(workflow=workflow, task=task, on_exhausted=on_exhausted, deadline=deadline)
        config = _config(api_key, base_url)
        headers = {**_custom(config), **(default_headers or {}), **_headers(given)}
        key: Any = config.api_key
        super().__init__(api_key=key, base_url=config.base_url, default_headers=headers, **options)
        _settle(self, headers, options)
        self._default_stream_cls = ReceiptStream

    def request(self, cast_to: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
        """Do what openai-python's does; its errors are ours as well."""
        with budgeted(options.headers, self._custom_headers), named():
            return super().request(cast_to, options, *args, **kwargs)

    def _prepare_options(self, options: Any) -> Any:
        return _within_budget(self, super()._prepare_options(options))

    def _process_response(self, **parts: Any) -> Any:
        parts["stream_cls"] = watched(parts["stream_cls"])
        return _received(super()._process_response(**parts), parts)


class AsyncOpenAI(_ForGateway, openai.AsyncOpenAI):
    """``openai.AsyncOpenAI`` for a gateway; its arguments are those of ``OpenAI``.

    Raises:
        ConfigurationError: names the bad value and the cure.
    """

    def __init__(
        self,
        *,
        api_key: AsyncApiKey | None = None,
        base_url: Any = None,
        workflow: str | None = None,
        task: str | None = None,
        on_exhausted: str | None = None,
        deadline: float | None = None,
        default_headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        given = FlatfeeOptions(workflow=workflow, task=task, on_exhausted=on_exhausted, deadline=deadline)
        config = _config(api_key, base_url)
        headers = {**_custom(config), **(default_headers or {}), **_headers(given)}
        key: Any = config.api_key
        super().__init__(api_key=key, base_url=config.base_url, default_headers=headers, **options)
        _settle(self, headers, options)
        self._default_stream_cls = AsyncReceiptStream

    async def request(self, cast_to: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
        """Do what openai-python's does; its errors are ours as well."""
        with budgeted(options.headers, self._custom_headers), named():
            return await super().request(cast_to, options, *args, **kwargs)

    async def _prepare_options(self, options: Any) -> Any:
        return _within_budget(self, await super()._prepare_options(options))

    async def _process_response(self, **parts: Any) -> Any:
        parts["stream_cls"] = watched(parts["stream_cls"])
        return _received(await super()._process_response(**parts), parts)


def _headers(options: FlatfeeOptions) -> dict[str, str]:
    seconds = deadline(options)
    own = {} if seconds is None else {Header.DEADLINE_MS: str(math.ceil(seconds * 1000))}
    return {**gateway_headers(options), **own}


def _config(api_key: AsyncApiKey | None, base_url: object) -> ClientConfig:
    return ClientConfig.read(os.environ, api_key=api_key, base_url=base_url)


def _custom(config: ClientConfig) -> dict[str, str]:
    """Return the headers of ``FLATFEE_CUSTOM_HEADERS``; openai-python names itself as it does everywhere."""
    return {name: value for name, value in config.headers.items() if name not in {"accept", "user-agent"}}


def _settle(client: Any, headers: Mapping[str, str], options: Mapping[str, Any]) -> None:
    """Take back what openai-python read from ``OPENAI_*``, and let it send the idempotency keys that it makes."""
    for name in ("organization", "project", "webhook_secret", "admin_api_key"):
        setattr(client, name, options.get(name))
    client._custom_headers = dict(headers)
    client._idempotency_header = "Idempotency-Key"


def _within_budget(client: Any, options: Any) -> Any:
    budget = current()
    return options if budget is None else budget.applied(options, client.timeout)


def _worth_waiting(client: Any, response: Any) -> bool:
    if active() is not None and (receipt := Receipt.of(response)) is not None:
        note(receipt)  # a try that is repeated is a request of its own
    budget = current()
    asked = client._parse_retry_after_header(response.headers) if budget else None
    return budget is None or asked is None or asked < budget.left()


def _shortened(seconds: float) -> float:
    budget = current()
    return seconds if budget is None else max(0.0, min(seconds, budget.left()))


def _refusal(body: object, response: Any) -> Any:
    readable = body if isinstance(body, Mapping | str) else None
    error = from_wire(response.status_code, response.headers, readable)
    if error.receipt is not None:
        note(error.receipt)
    return both(error, request=response.request, response=response)


def _received(answer: Any, parts: Mapping[str, Any]) -> Any:
    """Note the receipt of an answer. A stream notes its own, also one that is parsed later."""
    if parts["stream"]:
        return answer
    response = parts["response"]
    if isinstance(answer, str) and parts["cast_to"] is ChatCompletion:  # openai-python hands out a web page as it came
        kind = response.headers.get("content-type")
        error = APIResponseValidationError(f"The answer is not JSON (content type {kind}).")
        raise both(error, request=response.request, response=response)
    extra = answer.model_extra if isinstance(answer, BaseModel) else None
    if extra and extra.get("error"):  # some gateways answer errors with status 200
        raise _refusal(extra, response)
    if active() is not None:  # nobody else wants it made
        receipt = Receipt.from_answer(response.headers, extra) if extra else Receipt.of(response)
        if receipt is not None and receipt.lane is not None:
            note(receipt)
    return answer
