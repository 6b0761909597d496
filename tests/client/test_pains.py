"""The pains of users of other SDKs that no other file cures; and that each of the list has its test.

The list is docs/concepts/pains.md.
"""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

import flatfee

ROOT = Path(__file__).parents[2]


def text(content: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "c", "choices": [choice]}).encode() + b"\n\n"


def error_event(code: str) -> bytes:
    body = flatfee.wire.error_body(code, "No.", receipt={"request_id": "req_1", "state": "settled", "lane": "premium"})
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def marked(tree: ast.Module) -> set[int]:
    """Return the numbers that the tests of a file are marked with."""
    return {
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "pain"
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, int)
    }


def test_every_pain_of_the_list_has_a_test_that_names_it() -> None:
    listed = {
        int(number)
        for number in re.findall(r"^\| (\d+) \|", (ROOT / "docs/concepts/pains.md").read_text(), re.MULTILINE)
    }
    tested: set[int] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        if ".pain(" in (text := path.read_text()):
            tested |= marked(ast.parse(text))
    assert listed == set(range(1, 26))
    assert tested == listed


@pytest.mark.pain(1)
def test_an_import_brings_neither_an_http_library_nor_an_event_loop_and_builds_no_model() -> None:
    """Pain 1: an import of a second and a hundred megabytes."""
    late = ("httpx", "httpx2", "anyio", "asyncio", "tenacity", "openai", "opentelemetry", "ssl", "flatfee.server")
    code = (
        f"import sys, flatfee; print([name for name in {late!r} if name in sys.modules]); "
        "print([name for name, found in vars(flatfee).items() if getattr(found, '__pydantic_complete__', False)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["[]", "[]", ""]


@pytest.mark.pain(7)
async def test_a_connection_that_breaks_in_mid_stream_raises_our_exception(driver: Any, sse: Any) -> None:
    """Pain 7: transport errors in mid-stream escaped as the HTTP library's own."""
    d = driver(lambda _: sse(text("Hel"), httpx.ReadError("gone")))
    with pytest.raises(flatfee.APIConnectionError) as caught:
        await d.all(await d.stream())
    assert caught.value.receipt is not None
    assert caught.value.receipt.lane == "premium"
    assert caught.value.partial == "Hel"
    assert isinstance(caught.value.__cause__, httpx.ReadError)


@pytest.mark.pain(8)
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("fallback_exhausted", flatfee.FallbackExhausted),
        ("provider_unavailable", flatfee.ServiceUnavailableError),
        ("deadline_exceeded", flatfee.DeadlineExceededError),
        ("rate_limited", flatfee.RateLimitError),
    ],
)
async def test_an_error_event_in_mid_stream_has_class_status_and_receipt(
    driver: Any, sse: Any, code: str, kind: type[flatfee.APIStatusError]
) -> None:
    """Pain 8: error events in mid-stream had no status, or status 200."""
    d = driver(lambda _: sse(text("Hel"), error_event(code)))
    with pytest.raises(kind) as caught:
        await d.all(await d.stream())
    assert type(caught.value) is kind
    assert caught.value.status_code == flatfee.wire.ERRORS[code].status
    assert caught.value.code == code
    assert caught.value.receipt is not None
    assert caught.value.receipt.state == "settled"
    assert caught.value.partial == "Hel"


@pytest.mark.pain(9)
async def test_a_stream_without_finish_reason_is_truncated_and_one_without_done_is_not(driver: Any, sse: Any) -> None:
    """Pain 9: an end without ``finish_reason`` passed for a whole answer."""
    cut = driver(lambda _: sse(text("Hel")))
    with pytest.raises(flatfee.StreamTruncated) as caught:
        await cut.all(await cut.stream())
    assert caught.value.partial == "Hel"
    whole = driver(lambda _: sse(text("Hello", "stop")))
    assert len(await whole.all(await whole.stream())) == 1


@pytest.mark.pain(20)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_sent_with_status_200_is_raised(driver: Any, stream: bool) -> None:
    """Pain 20: an error with status 200 passed for an answer."""
    body = {"error": {"message": "No.", "code": "rate_limited"}, "choices": []}
    d = driver(lambda _: httpx.Response(200, json=body), max_retries=0)
    with pytest.raises(flatfee.RateLimitError):
        await d.create(stream=stream)
