"""Where requests go, and their heads."""

from __future__ import annotations

import pytest

from flatfee.server.providers.http1.target import Origin, head_of, origin_of


@pytest.mark.parametrize(
    ("url", "origin", "authority"),
    [
        ("http://a.example/v1", Origin(host="a.example", port=80, tls=False), "a.example"),
        ("https://A.example/v1", Origin(host="a.example", port=443, tls=True), "a.example"),
        ("https://a.example:80/v1", Origin(host="a.example", port=80, tls=True), "a.example:80"),
        ("http://[::1]:8000/v1", Origin(host="::1", port=8000, tls=False), "[::1]:8000"),
        ("http://bücher.example", Origin(host="bücher.example", port=80, tls=False), "xn--bcher-kva.example"),
    ],
)
def test_a_url_names_a_server(url: str, origin: Origin, authority: str) -> None:
    assert origin_of(url) == origin
    assert origin.authority == authority


@pytest.mark.parametrize("url", ["ftp://a.example", "a.example/v1", "http:///v1"])
def test_what_names_no_server_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is not an http or https URL"):
        origin_of(url)


def test_a_host_that_is_no_name_makes_no_head_of_its_own() -> None:
    assert origin_of(f"http://{'ü' * 70}.example").authority.isascii()


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("http://a.example", b"POST / HTTP/1.1"),
        ("http://a.example/v1/a%20b?limit=1&x=%2F", b"POST /v1/a%20b?limit=1&x=%2F HTTP/1.1"),
        ("http://a.example/a b HTTP/1.1\r\nx: y", b"POST /a%20b%20HTTP/1.1x:%20y HTTP/1.1"),
        ("http://a.example/\x01ü?\x7f", b"POST /%01%C3%BC?%7F HTTP/1.1"),
    ],
)
def test_a_url_is_one_word_of_the_first_line(url: str, line: bytes) -> None:
    assert head_of("POST", url, {"accept": "*/*"}) == line + b"\r\nhost: a.example\r\naccept: */*\r\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-key", "secret\r\nx: y"),
        ("x-key", "secret\n"),
        ("x-key", "secret\0"),
        ("x-key", "sécret"),
        ("x-key", " secret"),
        ("x-key", ""),
        ("x key", "secret"),
        ("x:", "secret"),
        ("x\r\n", "secret"),
        ("", "secret"),
    ],
)
def test_a_header_that_would_be_read_as_something_else_is_refused_and_not_shown(name: str, value: str) -> None:
    with pytest.raises(ValueError, match="cannot be sent") as caught:
        head_of("POST", "http://a.example", {name: value})
    assert not value or value not in str(caught.value)
