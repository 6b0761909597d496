"""The head of a request: its first line, its headers, and who is meant by them."""

from __future__ import annotations

import json

import pytest
from tests.server.abuse.wire import AUTHORIZATION, Bench, Case, head, ok, stays, whole
from tests.server.fakes import KEY

pytestmark = pytest.mark.slow
"""It goes through many cases; ``make check`` has the time."""


def first(line: bytes, *lines: bytes) -> bytes:
    return head(*lines, first=line)


def get(target: bytes) -> bytes:
    return head(first=b"GET " + target + b" HTTP/1.1")


def hosted(*hosts: bytes, line: bytes = b"GET /v1/models HTTP/1.1") -> bytes:
    return head(*hosts, first=line, host=None)


def keyed(*lines: bytes) -> bytes:
    return b"\r\n".join([b"GET /v1/models HTTP/1.1", b"host: gateway", *lines, b"", b""])


NAMES_AND_VALUES = [
    Case("a NUL in a value", whole(b"a: b\0c")),
    Case("a NUL in a name", whole(b"a\0: b")),
    Case("a control character in a value", whole(b"a: b\x01c")),
    Case("a delete character in a value", whole(b"a: \x7f")),
    Case("a control character in a name", whole(b"a\x01: b")),
    Case("a bracket in a name", whole(b"a[b]: c")),
    Case("a name that is not ASCII", whole("é: b".encode())),
    ok("a value that is not ASCII", whole(b"a: \xe9\xff")),
    ok("a tab in a value", whole(b"a: b\tc")),
    Case("a line break in a workflow", whole(b"x-flatfee-workflow: a\r b")),
    stays("a workflow with spaces", whole(b"x-flatfee-workflow: a b")),
    stays("a workflow twice", whole(b"x-flatfee-workflow: a\r\nx-flatfee-workflow: b")),
    ok("a request id of the caller's", whole(b"x-request-id: evil\r\nx-flatfee-request-id: evil")),
    ok("our header with underscores", whole(b"x_flatfee_task: evil")),
    ok("our header called a hop's own", whole(b"connection: keep-alive, x-flatfee-workflow", b"x-flatfee-workflow: w")),
    ok(
        "forwarding headers",
        whole(b"x-forwarded-host: evil", b"x-original-url: /admin/v1/accounts", b"forwarded: for=evil"),
    ),
    ok("another method in a header", whole(b"x-http-method-override: DELETE")),
]
METHODS = [
    Case("a method with a sign", first(b"G@T / HTTP/1.1")),
    Case("a method in small letters", first(b"get /v1/models HTTP/1.1")),
    Case("a method nobody knows", first(b"BREW /v1/models HTTP/1.1")),
    Case("a method of 5,000 letters", first(b"A" * 5000 + b" / HTTP/1.1")),
    Case("no method", first(b" /v1/models HTTP/1.1")),
    Case("no target", first(b"GET HTTP/1.1")),
    stays("OPTIONS", first(b"OPTIONS /v1/models HTTP/1.1"), 404, "not_found"),
    stays("OPTIONS for everything", first(b"OPTIONS * HTTP/1.1"), 404, "not_found"),
    stays("TRACE", first(b"TRACE /v1/models HTTP/1.1", b"x-canary: evil"), 404, "not_found"),
    Case("CONNECT", first(b"CONNECT evil.example:443 HTTP/1.1")),
    Case("CONNECT to an address", first(b"CONNECT [::1]:443 HTTP/1.1")),
    Case("CONNECT to a path", first(b"CONNECT /v1/models HTTP/1.1")),
    Case("CONNECT with a wish", first(b"CONNECT evil.example:443 HTTP/1.1", b"connection: upgrade", b"upgrade: h2c")),
]
VERSIONS = [
    Case("HTTP/0.9", b"GET /v1/models\r\n\r\n"),
    Case("HTTP/0.9 by name", first(b"GET /v1/models HTTP/0.9")),
    ok("HTTP/1.0", first(b"GET /v1/models HTTP/1.0"), closes=True),
    Case("HTTP/1.2", first(b"GET /v1/models HTTP/1.2")),
    Case("HTTP/1.10", first(b"GET /v1/models HTTP/1.10")),
    Case("HTTP/2.0", first(b"GET /v1/models HTTP/2.0")),
    Case("HTTP/x", first(b"GET /v1/models HTTP/x")),
    Case("http in small letters", first(b"GET /v1/models http/1.1")),
    Case("a space behind the version", first(b"GET /v1/models HTTP/1.1 ")),
    Case("tabs between", first(b"GET\t/v1/models\tHTTP/1.1")),
]
HOSTS = [
    Case("no host", hosted()),
    stays("two hosts", hosted(b"host: a", b"host: b")),
    stays("the same host twice", hosted(b"host: a", b"host: a")),
    Case("a host with a path", hosted(b"host: evil/health/live")),
    Case("a host with a user", hosted(b"host: evil@gateway")),
    Case("a host with a space", hosted(b"host: a b")),
    Case("a host with a port that is none", hosted(b"host: a:80a")),
    Case("two hosts in one", hosted(b"host: a, b/")),
    Case("a host that is not ASCII", hosted(b"host: \xe9vil")),
    ok("a host without a name", hosted(b"host:")),
    ok("an address as host", hosted(b"host: [::1]:8787")),
    ok("no host in HTTP/1.0", hosted(line=b"GET /v1/models HTTP/1.0"), closes=True),
    ok("another host", hosted(b"host: evil.example")),
    ok("another host in the target", get(b"http://evil.example/v1/models")),
    Case("a port in the target that is none", get(b"http://evil.example:99999/v1/models")),
]
PATHS = [
    stays("two slashes", get(b"//v1/models"), 404, "not_found"),
    stays("a slash at the end", get(b"/v1/models/"), 404, "not_found"),
    stays("dots to the admin API", get(b"/v1/../admin/v1/accounts"), 404, "not_found"),
    stays("encoded dots to the admin API", get(b"/v1/%2e%2e/admin/v1/accounts"), 404, "not_found"),
    stays("dots encoded twice", get(b"/v1/%252e%252e/admin/v1/accounts"), 404, "not_found"),
    stays("an encoded slash", get(b"/v1/models/..%2fusage"), 404, "model_not_found"),
    stays("an encoded NUL", get(b"/v1/receipts/%00"), 404, "not_found"),
    stays("encoded line breaks", get(b"/v1/models/a%0d%0aevil:%201"), 404, "model_not_found"),
    stays("half an encoding", get(b"/v1/models/%e"), 404, "model_not_found"),
    stays("an encoding that is no UTF-8", get(b"/v1/models/%ff"), 404, "model_not_found"),
    stays("a backslash", get(b"/v1\\models"), 404, "not_found"),
    stays("the admin API, encoded", get(b"/%61dmin/v1/accounts"), 403, "permission_denied"),
    Case("a NUL", get(b"/v1/models\0")),
    Case("a path that is not ASCII", get("/v1/é".encode())),
    Case("a path without a slash", get(b"v1/models")),
    ok("a fragment", get(b"/v1/models#evil")),
    stays("a query of many parameters", get(b"/v1/receipts?" + b"a=b&" * 100), 400),
    ok("a query of odd bytes", get(b"/v1/receipts?limit=1&after=%00%ff&workflow=%0d%0a")),
    stays("a query for no number", get(b"/v1/receipts?limit=9999999999999999999999")),
]
KEYS = [
    stays("no key", keyed(), 401, "missing_api_key"),
    stays("a key twice", keyed(AUTHORIZATION, b"authorization: Bearer other")),
    stays("the same key twice", keyed(AUTHORIZATION, AUTHORIZATION)),
    stays("two keys in one", keyed(AUTHORIZATION + b", Bearer other"), 401, "invalid_api_key"),
    stays("a key that is not ASCII", keyed(b"authorization: Bearer canary-\xff\xfe"), 401, "invalid_api_key"),
    stays("a key of 20,000 characters", keyed(AUTHORIZATION + b"x" * 20_000), 401, "invalid_api_key"),
    stays("a key of another scheme", keyed(b"authorization: Basic " + KEY.encode()), 401, "missing_api_key"),
    Case("a line break in a key", keyed(AUTHORIZATION.replace(b"-of", b"\r-of"))),
    Case("a NUL in a key", keyed(AUTHORIZATION + b"\0")),
]
LARGE = "headers_too_large"
SIZES = [
    Case("a path of 9,000 bytes", get(b"/v1/models?" + b"a" * 9000), 431, LARGE),
    Case("a path of a megabyte", get(b"/" + b"a" * 1_000_000), 431, LARGE),
    Case("a header of a megabyte", head(b"a: " + b"x" * 1_000_000), 431, LARGE),
    Case("a header's name of a megabyte", head(b"x" * 1_000_000 + b": a"), 431, LARGE),
    Case("200,000 headers", head(*[b"a%d:b" % at for at in range(200_000)]), 431, LARGE),
    Case("empty lines without end", b"\r\n" * 500_000, 431, LARGE),
    stays("a header a little too large", head(b"a: " + b"x" * 33_000), 431, LARGE),
]  # fmt: skip


@pytest.mark.parametrize("case", NAMES_AND_VALUES + METHODS + VERSIONS, ids=str)
async def test_a_head_is_read_as_the_standard_has_it(bench: Bench, case: Case) -> None:
    await bench.try_out(case)


@pytest.mark.parametrize("case", HOSTS + PATHS + KEYS, ids=str)
async def test_only_path_and_key_say_what_is_meant(bench: Bench, case: Case) -> None:
    await bench.try_out(case)


@pytest.mark.parametrize("case", SIZES, ids=str)
async def test_a_head_is_bounded_while_it_arrives(bench: Bench, case: Case) -> None:
    await bench.try_out(case)


@pytest.mark.parametrize("path", [b"/v1/models", b"/v1/models/premium", b"/health/live", b"/evil", b"/admin/v1/routes"])
async def test_head_is_answered_as_get_without_a_body(bench: Bench, path: bytes) -> None:
    caller = await bench.call(get(path))
    whole_answer = await caller.answer()
    caller = await bench.call(first(b"HEAD " + path + b" HTTP/1.1", b"connection: close"))
    lines, _, rest = (await caller.rest()).decode().partition("\r\n\r\n")
    line, *headers = lines.split("\r\n")
    assert (int(line.split()[1]), rest) == (whole_answer.status, "")
    if whole_answer.status == 200:
        assert f"content-length: {len(whole_answer.body)}" in headers


async def test_what_a_caller_names_a_hops_own_still_counts(bench: Bench) -> None:
    lines = (b"connection: keep-alive, x-flatfee-workflow", b"x-flatfee-workflow: run-7")
    caller = await bench.call(whole(*lines))
    receipt = json.loads((await caller.answer()).body)["flatfee"]
    assert receipt["workflow"]["id"] == "run-7"


async def test_a_header_with_underscores_is_not_ours(bench: Bench) -> None:
    caller = await bench.call(whole(b"x_flatfee_workflow: run-8"))
    receipt = json.loads((await caller.answer()).body)["flatfee"]
    assert receipt.get("workflow", {}).get("id") != "run-8"
