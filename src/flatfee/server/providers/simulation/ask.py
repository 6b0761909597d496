"""A body for the simulated model, read and checked into what its answer depends on. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from flatfee.server.providers.simulation import reading
from flatfee.server.providers.simulation.conversation import check_messages, last_said
from flatfee.server.providers.simulation.offers import Offer, bad_schema, read_offer
from flatfee.server.providers.simulation.parameters import REASONING, check_parameters
from flatfee.server.providers.simulation.refusal import RefusedError, missing, unknown, wrong_type
from flatfee.server.providers.simulation.schema import Budget, JsonSchema, UnanswerableError
from flatfee.server.providers.simulation.strict import check_strict

_NOTHING_OFFERED: Final = Offer(mode="none")
_OFFERING: Final = frozenset(("tools", "functions", "tool_choice", "function_call"))
FORMAT: Final = "response_format"


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of the model. ``most`` is a choice's tokens; ``form`` is the schema of an answer in JSON.

    A struct of ``msgspec``, for it is made in half the time of a frozen dataclass.
    """

    model: str
    messages: Sequence[dict[str, Any]]
    choices: int
    most: int | None
    stop: Sequence[str]
    offer: Offer
    form: JsonSchema | None
    reasoning_tokens: int
    logprobs: bool
    alternatives: int
    include_usage: bool
    seed: int | None
    budget: Budget


def read_ask(body: bytes) -> Ask:
    """Read a body.

    Raises:
        RefusedError: OpenAI would not answer it either.
        SpentError: its schemas are too large.
    """
    fields = _decode(body)
    check_parameters(fields)
    for name in ("model", "messages"):
        if fields.get(name) is None:
            raise missing(name)
    check_messages(fields["messages"])
    budget = Budget()
    form = _form(fields[FORMAT], fields["messages"], budget) if fields.get(FORMAT) else None
    offer = _NOTHING_OFFERED if _OFFERING.isdisjoint(fields) else read_offer(fields, budget)
    return _ask(fields, form, offer, budget)


def _ask(fields: Mapping[str, Any], form: JsonSchema | None, offer: Offer, budget: Budget) -> Ask:
    stop = fields.get("stop") or ()
    options = fields.get("stream_options") or {}
    return Ask(
        model=fields["model"],
        messages=fields["messages"],
        choices=fields.get("n") or 1,
        most=fields.get("max_completion_tokens") or fields.get("max_tokens"),
        stop=(stop,) if isinstance(stop, str) else stop,
        offer=offer,
        form=form,
        reasoning_tokens=REASONING[fields.get("reasoning_effort") or "none"],
        logprobs=bool(fields.get("logprobs")),
        alternatives=fields.get("top_logprobs") or 0,
        include_usage=bool(options.get("include_usage")),
        seed=fields.get("seed"),
        budget=budget,
    )


def _decode(body: bytes) -> dict[str, Any]:
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RefusedError(f"We could not parse the JSON body of your request: {error}.") from error
    if not isinstance(fields, dict):
        raise RefusedError("The body has to be a JSON object.")
    return fields


def _form(wanted: Mapping[str, Any], messages: Sequence[dict[str, Any]], budget: Budget) -> JsonSchema | None:
    kind = wanted.get("type")
    match kind:
        case "text":
            return None
        case "json_object":
            return JsonSchema(_object_of(reading.names(last_said(messages)[: reading.MOST_READ])), budget)
        case "json_schema":
            return _schema(wanted.get("json_schema"), budget)
        case None:
            raise missing(f"{FORMAT}.type")
        case _:
            raise unknown(f"{FORMAT}.type", kind, "'json_object', 'json_schema' and 'text'")


def _object_of(names: Sequence[str]) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {"type": "string"} for name in names}, "required": names}


def _schema(wanted: Any, budget: Budget) -> JsonSchema:
    param = f"{FORMAT}.json_schema"
    if not isinstance(wanted, dict):
        raise missing(param) if wanted is None else wrong_type(param, "an object", wanted)
    schema = wanted.get("schema")
    schema = {} if schema is None else schema
    if not isinstance(schema, dict):
        raise wrong_type(f"{param}.schema", "an object", schema)
    try:
        if wanted.get("strict"):
            check_strict(schema, budget)
        return JsonSchema(schema, budget)
    except UnanswerableError as error:
        raise bad_schema(
            f"response_format {str(wanted.get('name'))[:60]!r}", FORMAT, error, "invalid_json_schema"
        ) from error
