"""The OpenAPI document: whole, sound, and the same table that requests are served by."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.server.admin.conftest import DOCUMENT, mistakes, resolve

from flatfee.server.admin import table
from flatfee.server.admin.endpoint import Nothing
from flatfee.server.admin.openapi import ErrorEnvelope
from flatfee.server.admin.table import ENDPOINTS, ROOT, find

OPERATIONS = [
    (path, method, operation)
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
]


def walk(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, member in value.items():
            yield name, member
            yield from walk(member)
    elif isinstance(value, list):
        for item in value:
            yield from walk(item)


def test_every_endpoint_is_in_it_and_nothing_else() -> None:
    assert {(path, method.upper()) for path, method, _ in OPERATIONS} == {
        (ROOT + endpoint.path, endpoint.method) for endpoint in ENDPOINTS
    }


async def test_it_is_made_once_as_anybody_may_ask_for_it(office: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def make(endpoints: Any, root: str) -> bytes:
        made.append(root)
        return b"{}"

    table._document.cache_clear()
    monkeypatch.setattr(table, "document", make)
    for _ in range(3):
        assert (await office.rig.client.get(table.DOCUMENT)).content == b"{}"
    assert made == [ROOT]
    table._document.cache_clear()


def test_every_reference_leads_somewhere() -> None:
    references = [value for name, value in walk(DOCUMENT) if name == "$ref"]
    assert references
    for reference in references:
        assert resolve(reference, DOCUMENT)


def test_every_schema_is_used() -> None:
    used = {value.rpartition("/")[2] for name, value in walk(DOCUMENT) if name == "$ref"}
    assert used == set(DOCUMENT["components"]["schemas"])


def test_operations_have_names_of_their_own() -> None:
    names = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
def test_an_operation_tells_its_summary_parameters_and_errors(path: str, method: str, operation: Any) -> None:
    assert operation["summary"].endswith(".")
    in_path = {one["name"] for one in operation["parameters"] if one["in"] == "path"}
    assert in_path == {part.strip("{}") for part in path.split("/") if part.startswith("{")}
    assert {"401", "403", "503"} <= set(operation["responses"])
    assert all(answer["description"] for answer in operation["responses"].values())
    find(method.upper(), path.replace("{", "").replace("}", ""))  # or it raises


@pytest.mark.parametrize("endpoint", [row for row in ENDPOINTS if row.takes is not Nothing], ids=lambda row: row.path)
def test_a_body_is_closed_and_says_what_must_be_sent(endpoint: Any) -> None:
    operation = DOCUMENT["paths"][ROOT + endpoint.path][endpoint.method.lower()]
    schema = resolve(operation["requestBody"]["content"]["application/json"]["schema"]["$ref"], DOCUMENT)
    assert schema["additionalProperties"] is False
    assert operation["requestBody"]["required"] is bool(schema.get("required"))


def test_members_that_may_be_left_out_of_a_change_have_no_made_up_default() -> None:
    for name in ("UpdateAccount", "UpdateProject", "UpdateKey"):
        schema = DOCUMENT["components"]["schemas"][name]
        assert "required" not in schema
        assert all("default" not in member for member in schema["properties"].values())


@pytest.mark.parametrize(
    ("value", "schema", "found"),
    [
        ({"a": 1}, {"type": "object", "properties": {}, "additionalProperties": False}, "$.a: is unknown"),
        ({}, {"type": "object", "required": ["a"]}, "$.a: is missing"),
        (True, {"type": "integer"}, "$: not of type integer"),
        ([1, "x"], {"type": "array", "items": {"type": "integer"}}, "$[1]: not of type integer"),
        ("x", {"const": "y"}, "$: not 'y'"),
        ("x", {"enum": ["y"]}, "$: not one of ['y']"),
        (1, {"anyOf": [{"type": "string"}, {"type": "null"}]}, "$: no kind fits"),
        ({"error": {}}, {"$ref": "#/components/schemas/ErrorEnvelope"}, "$.flatfee: is missing"),
        ({"a": 1}, {"type": "object", "additionalProperties": {"type": "string"}}, "$.a: not of type string"),
    ],
)
def test_the_checker_of_answers_finds_what_is_wrong(value: Any, schema: dict[str, Any], found: str) -> None:
    assert found in mistakes(value, schema, DOCUMENT)


def test_the_schema_of_errors_is_that_of_the_envelope() -> None:
    told = ErrorEnvelope.model_json_schema(mode="serialization")["properties"]
    assert list(told) == ["error", "flatfee"]
    assert json.dumps(DOCUMENT)
