"""The OpenAPI 3.1 document of the admin API, made from its table. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from flatfee.server.admin.endpoint import Endpoint, Nothing
from flatfee.version import __version__
from flatfee.wire import ERRORS, ErrorCode

Json = dict[str, Any]
Schemas = Mapping[Any, Json]

_REFERENCES: Final = "#/components/schemas/{model}"


class ErrorDetail(BaseModel):
    """What went wrong: decide by ``code``, then by status, never by the message."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorEnvelope(BaseModel):
    """Every error. ``flatfee`` holds the request's id."""

    error: ErrorDetail
    flatfee: dict[str, Any]


def document(endpoints: Sequence[Endpoint[Any, Any]], root: str) -> bytes:
    """Return the document as JSON."""
    schemas, definitions = models_json_schema(list(_models(endpoints)), ref_template=_REFERENCES)
    paths: dict[str, Json] = {}
    for endpoint in endpoints:
        paths.setdefault(root + endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, schemas)
    told = {
        "openapi": "3.1.0",
        "info": {
            "title": "flatfee admin API",
            "version": __version__,
            "description": "Accounts, projects, keys, receipts, routes and the audit log of a gateway.",
        },
        "security": [{"admin": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"admin": {"type": "http", "scheme": "bearer", "description": "An admin key."}},
            "schemas": definitions["$defs"],
        },
    }
    return json.dumps(told).encode()


def _models(endpoints: Sequence[Endpoint[Any, Any]]) -> Iterator[tuple[type[BaseModel], JsonSchemaMode]]:
    yield ErrorEnvelope, "serialization"
    for endpoint in endpoints:
        yield endpoint.answers, "serialization"
        if endpoint.takes is not Nothing:
            yield endpoint.takes, "validation"


def _operation(endpoint: Endpoint[Any, Any], schemas: Schemas) -> Json:
    answer = {"description": "Done.", "content": _json(schemas[endpoint.answers, "serialization"])}
    responses = {str(endpoint.status): answer}
    for code in _errors(endpoint):
        rule = ERRORS[code]
        told = responses.setdefault(
            str(rule.status), {"description": "", "content": _json(schemas[ErrorEnvelope, "serialization"])}
        )
        told["description"] = f"{told['description']} `{code}`: {rule.when}".strip()
    operation: Json = {
        "operationId": endpoint.handler.__name__.strip("_"),
        "summary": endpoint.summary,
        "parameters": [*_path_parameters(endpoint.path), *_query_parameters(endpoint.query)],
        "responses": responses,
    }
    if endpoint.takes is not Nothing:
        fields = endpoint.takes.model_fields.values()
        content = _json(schemas[endpoint.takes, "validation"])
        operation["requestBody"] = {"required": any(field.is_required() for field in fields), "content": content}
    return operation


def _errors(endpoint: Endpoint[Any, Any]) -> Iterator[ErrorCode]:
    yield from (ErrorCode.INVALID_REQUEST, ErrorCode.MISSING_API_KEY, ErrorCode.INVALID_API_KEY)
    yield ErrorCode.PERMISSION_DENIED
    if "{" in endpoint.path or endpoint.method == "POST":
        yield ErrorCode.NOT_FOUND
    if endpoint.method != "GET":
        yield ErrorCode.CONFLICT
    if endpoint.takes is not Nothing:
        yield ErrorCode.REQUEST_TOO_LARGE
    yield from endpoint.errors
    yield ErrorCode.STORE_UNAVAILABLE


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def _path_parameters(path: str) -> list[Json]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)\}", path)
    ]


def _query_parameters(query: type[BaseModel]) -> list[Json]:
    schema = query.model_json_schema()
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": _told_if_sent(told)}
        for name, told in schema.get("properties", {}).items()
    ]


def _told_if_sent(schema: Json) -> Json:
    """Return a parameter's schema without the null that stands for its absence."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
    return kinds[0] if len(kinds) == 1 else schema
