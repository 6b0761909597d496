"""Paths and who serves them."""

from __future__ import annotations

import pytest

from flatfee.server.faults import Fault
from flatfee.server.routes import ENDPOINTS, NAMED_ENDPOINTS, find
from flatfee.wire import ErrorCode


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_each_endpoint_is_found_by_method_and_path(method: str, path: str) -> None:
    assert find(method, path) is ENDPOINTS[method, path]


@pytest.mark.parametrize(("method", "prefix"), NAMED_ENDPOINTS)
def test_each_endpoint_with_a_name_is_found(method: str, prefix: str) -> None:
    handler = find(method, prefix + "a/b")
    assert handler not in ENDPOINTS.values()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/v1/chat/completions"),
        ("POST", "/v1/models"),
        ("GET", "/v1/models/"),
        ("DELETE", "/v1/receipts/req_1"),
        ("OPTIONS", "/v1/models"),
        ("GET", "/v1/models\n"),
        ("GET", "/V1/models"),
        ("GET", "//v1/models"),
        ("X" * 500, "/" + "y" * 5000),
    ],
)
def test_anything_else_is_not_found_and_the_message_lists_what_exists(method: str, path: str) -> None:
    with pytest.raises(Fault) as caught:
        find(method, path)
    assert caught.value.code is ErrorCode.NOT_FOUND
    assert "POST /v1/chat/completions" in caught.value.message
    assert len(caught.value.message) < 600
