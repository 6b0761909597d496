"""Lists of models, as services write them."""

import json

import pytest

from flatfee.server.doctor.listed import read_list


@pytest.mark.parametrize(
    ("model", "size"),
    [
        ({"max_model_len": 32768}, 32768),  # vLLM
        ({"context_length": 200000, "top_provider": {"context_length": 100}}, 200000),  # OpenRouter
        ({"context_window": 131072}, 131072),  # Groq
        ({"max_context_length": 262144}, 262144),  # Mistral
        ({"max_input_tokens": 200000, "max_tokens": 64000}, 200000),  # Anthropic
        ({"meta": {"n_vocab": 262144, "n_ctx_train": 32768}}, 32768),  # llama.cpp
        ({}, None),
        ({"context_length": None, "meta": "odd"}, None),
        ({"context_length": -1, "context_window": 4096.5, "max_model_len": True}, None),
    ],
)
def test_a_size_is_found_where_each_service_tells_it(model: dict[str, object], size: int | None) -> None:
    listed = read_list(json.dumps({"object": "list", "data": [{"id": "m", **model}]}).encode())
    assert listed is not None
    assert listed.sizes == {"m": size}


def test_a_list_may_have_nothing_around_it() -> None:
    listed = read_list(b'[{"id": "m", "context_length": 2048}, {"no": "id"}, 7]')
    assert listed is not None
    assert listed.sizes == {"m": 2048}


@pytest.mark.parametrize("data", [b"", b"<html>", b"7", b'{"data": {}}', b"\xff", b"[" * 100_000])
def test_anything_else_is_no_list(data: bytes) -> None:
    assert read_list(data) is None


def test_names_that_are_near_are_those_that_can_be_shown() -> None:
    listed = read_list(json.dumps([{"id": "gpt-5.1"}, {"id": "gpt-5\x1b[2J"}, {"id": "whisper"}]).encode())
    assert listed is not None
    assert listed.near("gpt-5") == ["gpt-5.1"]
