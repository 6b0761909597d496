"""Pages of browsers: refused, unless the operator allowed them."""

from __future__ import annotations

import httpx
import pytest

from flatfee.server.app import create_app
from flatfee.server.configuration import parse_settings

CONFIGURATION = """
[server]
store = "memory://"
allowed_origins = ["https://app.test"]
[[providers]]
name = "sim"
kind = "simulated"
[[routes]]
name = "only"
provider = "sim"
model = "large"
tier = "premium"
[[plans]]
name = "pro"
fair_use = 1
"""


@pytest.fixture
def http() -> httpx.AsyncClient:
    app = create_app(parse_settings(CONFIGURATION, source="the test", env={}))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway.test")


async def test_a_page_that_was_not_allowed_is_refused(http: httpx.AsyncClient) -> None:
    for origin in ("https://evil.test", "null", "https://app.test.evil.test", "HTTPS://app.test"):
        response = await http.get("/v1/models", headers={"origin": origin})
        assert (response.status_code, response.json()["error"]["code"]) == (403, "browser_origin")
        assert "access-control-allow-origin" not in response.headers


async def test_an_allowed_page_may_read_the_receipt_headers(http: httpx.AsyncClient) -> None:
    response = await http.get("/v1/models", headers={"origin": "https://app.test"})
    assert response.status_code == 401
    assert response.headers["access-control-allow-origin"] == "https://app.test"
    assert "x-flatfee-lane" in response.headers["access-control-expose-headers"]
    assert response.headers["vary"] == "origin"


async def test_a_preflight_is_answered_without_a_key(http: httpx.AsyncClient) -> None:
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    response = await http.options("/v1/chat/completions", headers={"origin": "https://app.test", **asked})
    assert (response.status_code, response.content) == (204, b"")
    assert "authorization" in response.headers["access-control-allow-headers"]
    assert "x-flatfee-workflow" in response.headers["access-control-allow-headers"]
    refused = await http.options("/v1/chat/completions", headers={"origin": "https://evil.test", **asked})
    assert refused.status_code == 403


async def test_options_from_no_page_is_no_endpoint(http: httpx.AsyncClient) -> None:
    assert (await http.options("/v1/models")).status_code == 404
