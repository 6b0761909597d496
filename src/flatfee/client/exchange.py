"""One exchange with the gateway: from a call to a request, from a reply to an answer. Sans-IO.

``Call`` says what to ask and how to read the answer; resources make calls. ``request_for`` adds
what the client knows; a shell sends it; ``answer_to`` turns the finished reply into the typed
answer or the exception.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Generic, TypeVar, cast
from urllib.parse import quote, urlencode, urlsplit

from pydantic import ValidationError

from flatfee.client.config import ClientConfig, header_name, header_value
from flatfee.client.retry import Budget
from flatfee.errors import APIError, APIResponseValidationError, ConfigurationError, from_wire
from flatfee.types.base import Answer, Origin
from flatfee.types.sentinel import NOT_GIVEN, NotGiven, absent
from flatfee.types.timeout import Timeout
from flatfee.types.tries import Try
from flatfee.wire import Header

T = TypeVar("T")
A = TypeVar("A")
AnswerT = TypeVar("AnswerT", bound=Answer)

_NOT_JSON: Final = object()


@dataclass(frozen=True, slots=True)
class Reply:
    """A finished response; ``raw`` is the HTTP library's object, for exceptions to carry."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    raw: object = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """One call of the API. Headers have names in lower case; ``NOT_GIVEN`` takes a default away.

    ``deadline`` is in seconds, for all tries together. A ``metered`` call may use units of fair-use, and has a receipt.
    ``releases`` names the workflow whose slot the call gives back. A call that goes out ``once`` is not repeated.
    """

    method: str
    path: str
    read: Callable[[Reply], T]
    body: bytes | None = field(default=None, repr=False)
    headers: Mapping[str, str | NotGiven] = field(default_factory=dict, repr=False)
    query: Mapping[str, object] = field(default_factory=dict, repr=False)
    timeout: Timeout | NotGiven = NOT_GIVEN
    deadline: float | None = None
    metered: bool = False
    releases: str | None = None
    once: bool = False

    def reading(self, read: Callable[[Reply], A]) -> Call[A]:
        """Return the same call with another reading of its answer."""
        return cast("Call[A]", replace(self, read=cast("Any", read)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What goes onto the wire. Its repr shows neither key nor prompt."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    timeout: Timeout = field(default_factory=Timeout)
    budget: Budget | None = None

    def whole(self) -> Request:
        """Return the same for an answer that is no stream, to which the limits of tokens do not apply."""
        return replace(self, timeout=replace(self.timeout, first_token=None, idle=None))


def request_for(call: Call[Any], config: ClientConfig, authorization: str, budget: Budget | None = None) -> Request:
    """Join a call with the client's settings; the call's own come last and win.

    ``budget`` is what is left of the call's deadline: the gateway is told, and nothing may take longer.

    Raises:
        APITimeoutError: nothing is left.
    """
    headers: dict[str, str | NotGiven] = {**config.headers, Header.AUTHORIZATION: authorization}
    if call.body is not None:
        headers["content-type"] = "application/json"
    if budget is not None:
        left = budget.left()
        if left <= 0:
            raise budget.passed()
        headers[Header.DEADLINE_MS] = str(math.ceil(left * 1000))
    headers.update(call.headers)
    query = _query({**config.query, **call.query})
    return Request(
        method=call.method,
        url=f"{config.base_url}{call.path}{query}",
        headers={name: value for name, value in headers.items() if not isinstance(value, NotGiven)},
        body=call.body,
        timeout=config.timeout if isinstance(call.timeout, NotGiven) else call.timeout,
        budget=budget,
    )


def answer_to(call: Call[T], reply: Reply) -> T:
    """Read a finished reply.

    Raises:
        APIStatusError: the gateway answered with an error, under whatever status.
        APIResponseValidationError: the answer is not what the contract says.
    """
    if reply.status >= 300:
        raise refusal(reply)
    try:
        return call.read(reply)
    except APIError as error:
        error.response = reply.raw
        raise


def brought_by(tries: tuple[Try, ...], answer: object) -> None:
    """Let an answer, or what holds one, tell the tries that brought it."""
    origin = getattr(answer, "_origin", None)
    if isinstance(origin, Origin):
        origin.tries = tries


def refusal(reply: Reply) -> APIError:
    """Return the exception for a reply that is not a success."""
    if 300 <= reply.status < 400:
        error: APIError = APIResponseValidationError(
            f"The gateway answered with a redirect ({reply.status}) to {_place(reply.headers.get('location'))}; "
            "set base_url to the final address."
        )
    else:
        error = from_wire(reply.status, reply.headers, reply.body)
    error.response = reply.raw
    return error


def _place(location: str | None) -> str:
    """Return host and path of an address; what else it holds may be secret."""
    try:
        parts = urlsplit(location or "")
    except ValueError:
        return "an untold place"
    host = parts.netloc.rpartition("@")[2]
    return f"{f'{parts.scheme}://' if parts.scheme else ''}{host}{parts.path}" or "an untold place"


def is_stream(headers: Mapping[str, str]) -> bool:
    """Tell whether a good reply to a streamed call is a stream; a few gateways name no content type."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind not in {"application/json", "text/html"}


def unstreamed(reply: Reply) -> APIError:
    """Return the exception for a good reply that should have been a stream."""
    error = _hidden_error(reply) or APIResponseValidationError(
        f"A stream was asked for, and the answer has content type {reply.headers.get('content-type')}."
    )
    error.response = reply.raw
    return error


def reader(model: type[AnswerT]) -> Callable[[Reply], AnswerT]:
    """Return the function that reads a reply into ``model``; it can be pickled, as a page that can be turned must."""
    return partial(_read, model)


def _read(model: type[AnswerT], reply: Reply) -> AnswerT:
    try:
        found = model.model_validate_json(reply.body)
    except ValidationError as error:
        # Some gateways answer errors with status 200.
        raise _hidden_error(reply) or invalid(model.__name__, error, reply) from error
    if found.model_extra and found.model_extra.get("error"):
        raise from_wire(reply.status, reply.headers, found.model_extra)
    found._origin = Origin(reply.headers)
    return found


def read_nothing(reply: Reply) -> None:
    """Read a reply whose content does not matter; a web page in its place comes from someone else."""
    body = _decoded(reply)
    if body is _NOT_JSON:
        raise APIResponseValidationError(
            f"The answer is neither empty nor JSON (content type {reply.headers.get('content-type')})."
        )
    if error := _error_in(body, reply):
        raise error


def invalid(what: str, error: ValidationError, reply: Reply | None = None) -> APIResponseValidationError:
    """Return the exception for an answer that is not a ``what``; it tells the place, never the content."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"] if not str(part).startswith("="))  # marks of ``types.base``
    kind = reply.headers.get("content-type") if reply else None
    return APIResponseValidationError(
        f"The answer is not a valid {what}: {first['type']}{f' at {place}' if place else ''}"
        f"{f' (content type {kind})' if kind else ''}."
    )


def _hidden_error(reply: Reply) -> APIError | None:
    return _error_in(_decoded(reply), reply)


def _error_in(body: object, reply: Reply) -> APIError | None:
    if isinstance(body, Mapping) and body.get("error"):
        return from_wire(reply.status, reply.headers, body)
    return None


def _decoded(reply: Reply) -> object:
    try:
        return json.loads(reply.body or b"null")
    except (ValueError, RecursionError):
        return _NOT_JSON


def segment(name: str, value: object) -> str:
    """Return ``value`` as one segment of a path.

    Raises:
        ConfigurationError: it is empty, or would climb to another path.
    """
    if not isinstance(value, str) or value in {"", ".", ".."}:
        raise ConfigurationError(f"{name} is {value!r}; use the id of one, as the gateway gave it.")
    return quote(value, safe="")


def extra_headers(headers: Mapping[str, Any] | None) -> dict[str, str | NotGiven]:
    """Check a caller's headers; names become lower case."""
    return {
        header_name(name): NOT_GIVEN if absent(value) else header_value(name, value)
        for name, value in (headers or {}).items()
    }


def _query(values: Mapping[str, object]) -> str:
    """Return a query string; ``None`` and what was not given are left out."""
    given = [(name, _plain(value)) for name, value in values.items() if value is not None and not absent(value)]
    return "?" + urlencode(given, doseq=True) if given else ""


def _plain(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


def encode(body: Mapping[str, object]) -> bytes:
    """Return ``body`` as JSON, without what was not given.

    Models (ours and other SDKs') are sent as they came, mappings as objects, iterables as lists.

    Raises:
        ConfigurationError: a value cannot stand in JSON. The message does not show it.
    """
    given = {name: value for name, value in body.items() if not absent(value)}
    text = ""
    try:
        text = _ENCODER.encode(given)
        return text.encode()
    except UnicodeEncodeError:
        return _encode_what_is_sent(text)
    except RecursionError:
        raise ConfigurationError(_TOO_DEEP) from None
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"The request cannot be written as JSON: {error}.") from None


def _encode_what_is_sent(text: str) -> bytes:
    """Encode a request with half characters in it: some of them stand for what is not to be sent."""
    try:
        return _ENCODER.encode(_without_unsent(json.loads(text))).encode()
    except UnicodeEncodeError:
        raise ConfigurationError("The request holds half of a surrogate pair, which is not valid text.") from None
    except RecursionError:
        raise ConfigurationError(_TOO_DEEP) from None


def _without_unsent(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_unsent(part) for name, part in value.items() if part != _UNSENT}
    if isinstance(value, list):
        return [_without_unsent(part) for part in value if part != _UNSENT]
    return value


def _jsonable(value: object) -> object:
    if absent(value):
        return _UNSENT
    if isinstance(value, type):
        raise TypeError(
            f"the class {value.__name__} has no place in it; chat.completions.parse() takes one as response_format, "
            "and pydantic_function_tool() makes a tool of one"
        )
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(mode="json", exclude_unset=True)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Iterable) and not isinstance(value, bytes | bytearray):
        return list(value)
    raise TypeError(f"a value of type {type(value).__name__} has no place in it")


_TOO_DEEP: Final = "The request cannot be written as JSON: it is nested too deeply."

_UNSENT: Final = "\udfffnot given\udfff"
"""Stands in the text for a value deep inside that was not given. No text that may be sent holds half a character,
so nothing is looked for in a request that has none, and an iterator is asked only once."""

_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_jsonable)
