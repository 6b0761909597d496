"""The only place where failures become wire errors (docs/reference/wire.md).

Stages raise ``Fault`` with a code of the table; ``answer`` turns any exception into status,
headers and envelope. Messages name the bad value and the cure; never a key, a prompt or a trace.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from flatfee.receipt import Receipt
from flatfee.server.store.accounts import Denied, NoSuch
from flatfee.server.store.base import StoreDown
from flatfee.wire import ERRORS, ErrorCode, Header, ReceiptState, error_body

log = logging.getLogger("flatfee.server")

_WAIT_FOR_STORE = 1


class Fault(Exception):
    """A request that ends in an error of the contract. ``retry_after`` is in whole seconds.

    ``receipt`` and ``told`` (response headers) are what a subclass knows beyond the request's id.
    """

    receipt: Receipt | None = None
    told: Mapping[str, str] = MappingProxyType({})

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        param: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.retry_after = retry_after


def deadline_passed() -> Fault:
    """Return what a caller is told whose own limit passed."""
    return Fault(ErrorCode.DEADLINE_EXCEEDED, f"The caller's {Header.DEADLINE_MS} passed before the answer was whole.")


class ProviderRefusal(Exception):
    """A provider's own refusal that no other route could cure; it passes through with its status."""

    def __init__(self, status: int, error: Mapping[str, Any]) -> None:
        super().__init__(f"refused by the provider with status {status}")
        self.status = status
        self.error = dict(error)


class CallerGone(Exception):
    """The caller closed the connection: there is nobody to answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An error as it goes out."""

    status: int
    headers: dict[str, str]
    envelope: dict[str, Any]


def answer(error: Exception, receipt: Receipt) -> Answer:
    """Return what the caller is told of ``error``. ``receipt`` stands beside it in the envelope."""
    if isinstance(error, ProviderRefusal):
        return Answer(error.status, {Header.SHOULD_RETRY: "false"}, {"error": error.error, "flatfee": _dump(receipt)})
    fault = _as_fault(error)
    rule = ERRORS[fault.code]
    headers = {**fault.told, Header.SHOULD_RETRY: "true" if rule.retryable else "false"}
    if rule.retryable:
        headers[Header.RETRY_AFTER] = str(fault.retry_after or 1)
    told = _dump(fault.receipt or receipt)
    return Answer(rule.status, headers, error_body(fault.code, fault.message, param=fault.param, receipt=told))


def answer_alone(fault: Fault, request_id: str, now: float) -> bytes:
    """Return the whole response to what never became a request. The connection ends with it."""
    facts = {"request_id": request_id, "state": ReceiptState.REFUSED, "created_at": int(now)}
    told = answer(fault, Receipt.model_validate(facts))
    body = msgspec.json.encode(told.envelope)
    headers = {
        Header.REQUEST_ID: request_id,
        Header.X_REQUEST_ID: request_id,
        **told.headers,
        "content-type": "application/json",
        "content-length": str(len(body)),
        "connection": "close",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {told.status} {HTTPStatus(told.status).phrase}\r\n{lines}\r\n".encode() + body


def _dump(receipt: Receipt) -> dict[str, Any]:
    return receipt.model_dump(mode="json", exclude_unset=True)


def _as_fault(error: Exception) -> Fault:
    if isinstance(error, Fault):
        return error
    if isinstance(error, Denied):
        return Fault(ErrorCode.NOT_FOUND if isinstance(error, NoSuch) else ErrorCode.CONFLICT, str(error))
    if isinstance(error, StoreDown):
        log.error("store.down", extra={"error": str(error)})
        return Fault(
            ErrorCode.STORE_UNAVAILABLE,
            "The ledger cannot be reached, and nothing is served unmetered. Try again shortly.",
            retry_after=_WAIT_FOR_STORE,
        )
    # Where, but not the message: an exception's text may quote what the caller sent.
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
    log.error("request.crashed", extra={"error": type(error).__name__, "where": where})
    return Fault(
        ErrorCode.GATEWAY_OVERLOADED,
        "The gateway failed while it worked on this request; nothing more is known here. "
        "Tell the operator the request id.",
    )
