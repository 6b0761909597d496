"""Every failure of the client, as a named exception.

    FlatfeeError
    ├── ConfigurationError               a missing key, a bad base URL or option
    ├── ClientClosedError                the client was closed before the call
    ├── ToolLoopError                    a tool loop could not go on; .run
    │   ├── ToolLoopExceeded             it reached its limit of steps
    │   └── ToolError                    a tool of the caller's failed; .tool
    └── APIError                         .message .code .param .type .body .receipt .request_id .partial .run
        ├── APIConnectionError           nothing (more) came from the gateway
        │   └── APITimeoutError          a time limit of the client passed
        ├── APIResponseValidationError   the answer is not what the contract says
        │   └── StructuredOutputError    it does not fit the type asked for; .completion
        ├── LengthFinishReasonError      the answer to be parsed was cut off; .completion
        ├── ContentFilterFinishReasonError   a filter withheld it; .completion
        ├── StreamTruncated              a stream ended without its finish
        └── APIStatusError               .status_code .headers .response .retryable .retry_after
            ├── BadRequestError              400
            ├── AuthenticationError          401
            ├── BillingError                 402  fair-use spent, or billing inactive
            ├── PermissionDeniedError        403
            ├── NotFoundError                404
            ├── ConflictError                409  idempotency
            ├── RequestTooLargeError         413, 431
            ├── UnsupportedMediaTypeError    415
            ├── UnprocessableEntityError     422  a provider's refusal, passed through
            ├── RateLimitError               429
            │   └── ConcurrencyLimitError         too many concurrent workflows
            └── InternalServerError          5xx
                ├── ServiceUnavailableError  503
                │   └── FallbackExhausted        every eligible route failed; .attempts
                └── DeadlineExceededError    504

The names are openai-python's where it has one. Classes are chosen by ``code``, then by status,
never by message text. Every exception can be pickled; the HTTP response is left behind then.
No key, prompt or completion is part of a message.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from flatfee.receipt import Attempt, Receipt
from flatfee.wire import ERRORS, ErrorCode, Header, retry_after, retryable

if TYPE_CHECKING:
    from flatfee.types.chat import ChatCompletion
    from flatfee.types.runs import ToolRun
    from flatfee.types.tries import Try

_E = TypeVar("_E", bound=BaseException)


def _rebuild(cls: type[_E], state: dict[str, Any]) -> _E:
    """Make an exception again from its pickled state, without calling ``__init__``."""
    error = cls.__new__(cls)
    error.args = state.pop("args")
    error.__dict__.update(state)
    return error


class FlatfeeError(Exception):
    """Base of everything this package raises."""

    def __reduce__(self) -> tuple[Any, ...]:
        state = {name: value for name, value in self.__dict__.items() if name != "response"}
        return _rebuild, (type(self), {"args": self.args, **state})


class ConfigurationError(FlatfeeError, ValueError):
    """The client cannot be used as it was set up; the message names the value and the cure."""


class ClientClosedError(FlatfeeError):
    """The client was closed; nothing was sent."""


class ToolLoopError(FlatfeeError):
    """A tool loop could not go on. ``run`` is what it did so far; nothing that was paid for is lost."""

    def __init__(self, message: str, *, run: ToolRun[Any]) -> None:
        super().__init__(message)
        self.run = run


class ToolLoopExceeded(ToolLoopError):
    """The model still called tools in the last step that is allowed. They were run: ``run`` can be gone on with."""


class ToolError(ToolLoopError):
    """The tool named ``tool`` failed; ``__cause__`` is how."""

    def __init__(self, message: str, *, run: ToolRun[Any], tool: str) -> None:
        super().__init__(message, run=run)
        self.tool = tool


class APIError(FlatfeeError):
    """Something went wrong between this client and the gateway.

    ``body`` is the inner ``error`` object of the envelope, ``receipt`` the receipt beside it, or
    the one from the response headers, or ``None``.
    """

    response: Any = None
    """The HTTP library's response, where there was one; not part of a pickle."""
    partial: str = ""
    """The text that a stream delivered before this ended it (choice 0). It is not part of the message."""
    tries: tuple[Try, ...] = ()
    """Every request that was sent for the call, this failure's included; empty if none was."""
    retryable: bool = False
    """Whether the same request may succeed later. The client has repeated it already where its policy allows."""

    run: ToolRun[Any] | None = None
    """The tool loop that this ended, as far as it came."""

    def __init__(
        self,
        message: str,
        *,
        body: Mapping[str, Any] | None = None,
        receipt: Receipt | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.body = dict(body) if body is not None else None
        self.code: str | None = _text(self.body, "code")
        self.param: str | None = _text(self.body, "param")
        self.type: str | None = _text(self.body, "type")
        self.receipt = receipt

    @property
    def unsafe_to_replay(self) -> bool:
        """Whether the gateway may have served the request, so that a new call could be charged once more."""
        return False

    @property
    def request_id(self) -> str | None:
        """The gateway's id of the request, to quote to the operator."""
        return self.receipt.request_id if self.receipt else None

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Every route the gateway tried, in order; empty if it did not tell."""
        return (self.receipt.attempts or ()) if self.receipt else ()


class APIConnectionError(APIError):
    """The gateway could not be reached, or the connection broke before the answer was whole.

    ``retryable`` is false where another try would meet the same end, as with a request that cannot be sent.
    """

    retryable: bool = True
    sent: bool | None = None
    """Whether a part of the request left this computer; ``None`` if that is not known."""

    @property
    def unsafe_to_replay(self) -> bool:
        """Whether the gateway may have served the request; not if nothing of it was sent."""
        return self.sent is not False


class APITimeoutError(APIConnectionError):
    """A time limit of the client passed."""


class APIResponseValidationError(APIError):
    """The answer arrived, but it is not what the contract says."""


class StructuredOutputError(APIResponseValidationError):
    """The answer arrived whole, and does not fit the type that was asked for.

    ``completion`` holds it, as it came; ``__cause__`` is pydantic's error. Neither is part of the message.
    """

    def __init__(self, message: str, *, completion: ChatCompletion) -> None:
        super().__init__(message, receipt=completion.receipt)
        self.completion = completion


class LengthFinishReasonError(APIError):
    """The answer was cut off by a limit of tokens, so there is nothing to parse; ``completion`` has what came."""

    def __init__(self, *, completion: ChatCompletion) -> None:
        usage = completion.usage
        after = f" after {usage.completion_tokens:,} tokens" if usage else ""
        super().__init__(
            f"The answer was cut off{after}, and cannot be parsed; allow more with max_completion_tokens.",
            receipt=completion.receipt,
        )
        self.completion = completion


class ContentFilterFinishReasonError(APIError):
    """A content filter of the provider withheld the answer, or a part of it; ``completion`` has what came."""

    def __init__(self, *, completion: ChatCompletion) -> None:
        super().__init__(
            "A content filter of the provider withheld the answer, so it cannot be parsed.", receipt=completion.receipt
        )
        self.completion = completion


class StreamTruncated(APIError):
    """The stream ended without a finish reason: what was delivered is not a whole answer."""

    def __init__(self, message: str, *, partial: str = "", receipt: Receipt | None = None) -> None:
        super().__init__(message, receipt=receipt)
        self.partial = partial

    @property
    def unsafe_to_replay(self) -> bool:
        """Always: what was delivered is charged."""
        return True


class APIStatusError(APIError):
    """The gateway answered with an error, as a response or as an event in mid-stream.

    ``status_code`` is the HTTP status; for an event in mid-stream, the status of its code.
    ``retryable`` is what the gateway said in ``x-should-retry``, else the rule of the code, else of the status;
    false for money that is spent, whoever says otherwise. ``retry_after`` is in seconds.
    """

    def __init__(
        self,
        message: str,
        *,
        status_code: int,
        headers: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        receipt: Receipt | None = None,
    ) -> None:
        super().__init__(message, body=body, receipt=receipt)
        self.status_code = status_code
        self.headers: dict[str, str] = {name.lower(): value for name, value in (headers or {}).items()}
        self.retryable = retryable(status_code, self.code, self.headers.get(Header.SHOULD_RETRY), self.type)

    @property
    def request_id(self) -> str | None:
        """The gateway's id of the request, to quote to the operator."""
        return super().request_id or self.headers.get(Header.X_REQUEST_ID)

    @property
    def retry_after(self) -> float | None:
        """Seconds the gateway asks to wait, or ``None``; see ``wire.retry_after``."""
        return retry_after(self.headers)


class BadRequestError(APIStatusError):
    """400: the request is malformed, or a provider refused it for good."""


class AuthenticationError(APIStatusError):
    """401: the key is missing, malformed, unknown, revoked or expired."""


class BillingError(APIStatusError):
    """402: fair-use is spent and the request may not continue, or billing is inactive."""


class PermissionDeniedError(APIStatusError):
    """403: the key may not do this, or a web page sent it."""


class NotFoundError(APIStatusError):
    """404: no such model, endpoint, receipt or workflow for this key."""


class ConflictError(APIStatusError):
    """409: the idempotency key was used before, or what stands already is against a change (admin API)."""


class RequestTooLargeError(APIStatusError):
    """413 or 431: body or headers exceed the gateway's limit."""


class UnsupportedMediaTypeError(APIStatusError):
    """415: the body came with a content encoding."""


class UnprocessableEntityError(APIStatusError):
    """422: a provider refused the request for good."""


class RateLimitError(APIStatusError):
    """429: too many requests; wait ``retry_after`` seconds."""


class ConcurrencyLimitError(RateLimitError):
    """429 ``workflow_limit``: too many concurrent workflows; wait, or release one."""


class InternalServerError(APIStatusError):
    """5xx: the gateway or its providers failed."""


class ServiceUnavailableError(InternalServerError):
    """503: no provider, no ledger or no capacity right now."""


class FallbackExhausted(ServiceUnavailableError):
    """503 ``fallback_exhausted``: two or more routes, and all failed; ``attempts`` lists each.

    Never tried again by itself: the gateway has tried everything already.
    """


class DeadlineExceededError(InternalServerError):
    """504: the caller's deadline passed while the gateway worked."""


STATUS_CLASSES: Final[Mapping[int, type[APIStatusError]]] = MappingProxyType(
    {
        400: BadRequestError,
        401: AuthenticationError,
        402: BillingError,
        403: PermissionDeniedError,
        404: NotFoundError,
        409: ConflictError,
        413: RequestTooLargeError,
        415: UnsupportedMediaTypeError,
        422: UnprocessableEntityError,
        429: RateLimitError,
        431: RequestTooLargeError,
        503: ServiceUnavailableError,
        504: DeadlineExceededError,
    }
)
"""Status → class, for codes that have none of their own."""

CODE_CLASSES: Final[Mapping[str, type[APIStatusError]]] = MappingProxyType(
    {
        **{code: STATUS_CLASSES[rule.status] for code, rule in ERRORS.items()},
        ErrorCode.WORKFLOW_LIMIT: ConcurrencyLimitError,
        ErrorCode.FALLBACK_EXHAUSTED: FallbackExhausted,
    }
)
"""``ErrorCode`` → class; covers every code of the contract."""


def from_wire(
    status: int,
    headers: Mapping[str, str],
    body: bytes | str | Mapping[str, Any] | None,
) -> APIStatusError:
    """Make the exception for an error answer. Never fails, whatever the body holds.

    Args:
        status: the HTTP status; for an event in mid-stream 200, and then the code's status counts.
        headers: the response headers.
        body: the whole body, decoded or not.
    """
    envelope = body if isinstance(body, Mapping) else _decode(body)
    error = envelope.get("error")
    inner = error if isinstance(error, Mapping) else ({"message": error} if isinstance(error, str) else None)
    code = _text(inner, "code")
    rule = ERRORS.get(code or "")
    if status < 400:
        status = rule.status if rule else _number(inner, "status", "code") or 500
    fallback = InternalServerError if status >= 500 else APIStatusError
    cls = CODE_CLASSES.get(code or "") or STATUS_CLASSES.get(status, fallback)
    return cls(
        _text(inner, "message") or f"The gateway answered with status {status} and no error message.",
        status_code=status,
        headers=headers,
        body=inner,
        receipt=Receipt.from_answer(headers, envelope),
    )


def _decode(body: bytes | str | None) -> Mapping[str, Any]:
    try:
        found = json.loads(body or b"")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, Mapping) else {}


def _text(body: Mapping[str, Any] | None, name: str) -> str | None:
    value = body.get(name) if body else None
    return value if isinstance(value, str) else None


def _number(body: Mapping[str, Any] | None, *names: str) -> int | None:
    """Return the first of ``names`` that holds an HTTP error status."""
    for name in names:
        value = body.get(name) if body else None
        if isinstance(value, int) and 400 <= value <= 599:
            return value
    return None
