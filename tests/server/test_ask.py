"""Reading a request: what is refused with which words, what is estimated, and what passes through untouched."""

import hashlib
import hmac
import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flatfee.server.ask import Ask, digests_of, read_ask, read_idempotency_key
from flatfee.server.bodies import body_for
from flatfee.server.estimating import estimate_tokens
from flatfee.server.faults import Fault
from flatfee.server.providers.dialect import PLAIN
from flatfee.wire import ErrorCode, OnExhausted, Task

MESSAGES = b'"messages":[{"role":"user","content":"Hello"}]'


def ask(fields: str = "", headers: dict[bytes, bytes] | None = None) -> Ask:
    return read_ask(headers or {}, b'{"model":"auto",' + MESSAGES + (f",{fields}" if fields else "").encode() + b"}")


def ask_of(body: dict[str, Any]) -> Ask:
    return read_ask(
        {}, json.dumps({"model": "auto", "messages": [{"role": "user", "content": "Hello"}]} | body).encode()
    )


def fault(headers: dict[bytes, bytes], body: bytes) -> Fault:
    with pytest.raises(Fault) as raised:
        read_ask(headers, body)
    assert raised.value.code is ErrorCode.INVALID_REQUEST
    assert raised.value.message.endswith(".")
    return raised.value


def test_a_small_request_says_little() -> None:
    found = ask()
    assert (found.model, found.stream, found.include_usage, found.choices) == ("auto", False, False, 1)
    assert (found.tools, found.images, found.json_schema, found.in_tool_loop) == (False, False, False, False)
    assert (found.task, found.workflow, found.deadline_ms, found.output_tokens) == (None, None, None, None)
    assert found.on_exhausted is OnExhausted.CONTINUE


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        (b"", "The body is not a JSON object", None),
        (b"[]", "The body is not a JSON object", None),
        (b"{", "The body is not a JSON object", None),
        (b'"x"', "The body is not a JSON object", None),
        (b"{} x", "The body is not a JSON object", None),
        (b'{"model":"auto","x":NaN}', "The body is not a JSON object", None),
        (b'{"model":"auto","x":Infinity}', "The body is not a JSON object", None),
        (b'{"model":"auto","x":01}', "The body is not a JSON object", None),
        (b'{"model":"auto","x":"a\nb"}', "The body is not a JSON object", None),
        (b'{"model":"auto","x":"\\ud800"}', "The body is not a JSON object", None),
        (b'{"model":"auto","\\udfff":1}', "The body is not a JSON object", None),
        (b'{"model":"auto","x":"\xff"}', "The body is not UTF-8: byte 21 is not valid", None),
        (b'{"model":"auto","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "The body is not a JSON object", None),
        (b"{}", "model is missing; send 'auto', 'premium' or 'economy'", "model"),
        (b'{"model":""}', "model is missing", "model"),
        (b'{"model":null}', "model is missing", "model"),
        (b'{"model":5}', "model has the wrong type", "model"),
        (b'{"model":"auto"}', "messages is missing; send a list of messages", "messages"),
        (b'{"model":"auto","messages":[]}', "messages is empty; send at least one message", "messages"),
        (b'{"model":"auto","messages":null}', "messages must be a list of objects with a role", "messages"),
        (b'{"model":"auto","messages":{}}', "messages must be a list of objects with a role", "messages"),
        (b'{"model":"auto","messages":["x"]}', "messages must be a list of objects with a role", "messages"),
        (b'{"model":"auto","messages":[{"content":"x"}]}', "messages must be a list of objects with a", "messages"),
        (b'{"model":"auto","messages":[{"role":7}]}', "messages must be a list of objects with a role", "messages"),
    ],
)
def test_a_body_that_cannot_be_served_is_refused_by_name(body: bytes, message: str, param: str | None) -> None:
    found = fault({}, body)
    assert found.message.startswith(message)
    assert found.param == param


@pytest.mark.parametrize(
    ("field", "message", "param"),
    [
        ('"stream":"yes"', "stream has the wrong type", "stream"),
        ('"stream":1', "stream has the wrong type", "stream"),
        ('"stream_options":[]', "stream_options has the wrong type", "stream_options"),
        ('"stream_options":{"include_usage":"x"}', "stream_options has the wrong type", "stream_options"),
        ('"n":0', "n is 0; send a whole number from 1 to 128", "n"),
        ('"n":129', "n is 129; send a whole number from 1 to 128", "n"),
        ('"n":"1"', "n has the wrong type", "n"),
        ('"n":1.5', "n has the wrong type", "n"),
        ('"n":true', "n has the wrong type", "n"),
        ('"n":1' + "0" * 400, "n ", "n"),
        ('"max_tokens":-1', "max_tokens is -1; send a whole number from 1 to 2147483648", "max_tokens"),
        ('"max_completion_tokens":0', "max_completion_tokens is 0; send", "max_completion_tokens"),
        ('"tools":{}', "tools has the wrong type", "tools"),
        ('"response_format":"json"', "response_format has the wrong type", "response_format"),
        ('"reasoning_effort":3', "reasoning_effort has the wrong type", "reasoning_effort"),
    ],
)
def test_a_wrong_field_is_refused_by_name(field: str, message: str, param: str) -> None:
    found = fault({}, b'{"model":"auto",' + MESSAGES + b"," + field.encode() + b"}")
    assert found.message.startswith(message)
    assert found.param == param


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("x-flatfee-workflow", b"", "x-flatfee-workflow is ''; send 1 to 128 of A-Z a-z 0-9 . _ : -"),
        ("x-flatfee-workflow", b"a b", "x-flatfee-workflow is 'a b'; send"),
        ("x-flatfee-workflow", b"run\n", "x-flatfee-workflow is 'run\\n'; send"),
        ("x-flatfee-workflow", b"\xe9", "x-flatfee-workflow is 'é'; send"),
        ("x-flatfee-workflow", b"x" * 129, "x-flatfee-workflow is '" + "x" * 40 + "'…; send"),
        ("x-flatfee-task", b"paint", "x-flatfee-task is 'paint'; send one of: plan, edit, review, final, chat, summ"),
        ("x-flatfee-task", b"PLAN", "x-flatfee-task is 'PLAN'; send one of"),
        ("x-flatfee-on-exhausted", b"stop", "x-flatfee-on-exhausted is 'stop'; send one of: continue, fail"),
        ("x-flatfee-deadline-ms", b"0", "x-flatfee-deadline-ms is '0'; send whole milliseconds from 1 to 86400000"),
        ("x-flatfee-deadline-ms", b"-5", "x-flatfee-deadline-ms is '-5'; send"),
        ("x-flatfee-deadline-ms", b"1.5", "x-flatfee-deadline-ms is '1.5'; send"),
        ("x-flatfee-deadline-ms", b"", "x-flatfee-deadline-ms is ''; send"),
        ("x-flatfee-deadline-ms", b"86400001", "x-flatfee-deadline-ms is '86400001'; send"),
        ("x-flatfee-deadline-ms", b"9" * 5000, "x-flatfee-deadline-ms is '" + "9" * 40 + "'…; send"),
        ("x-flatfee-deadline-ms", b"\xb2", "x-flatfee-deadline-ms is '²'; send"),
    ],
)
def test_a_wrong_header_is_refused_by_name(name: str, value: bytes, message: str) -> None:
    found = fault({name.encode(): value}, b'{"model":"auto",' + MESSAGES + b"}")
    assert found.message.startswith(message)
    assert found.param == name


def test_headers_say_what_the_body_does_not() -> None:
    headers = {
        b"x-flatfee-workflow": b"Run_4:2.a-b",
        b"x-flatfee-task": b"review",
        b"x-flatfee-on-exhausted": b"fail",
        b"x-flatfee-deadline-ms": b"86400000",
    }
    found = ask(headers=headers)
    assert (found.workflow, found.task, found.deadline_ms) == ("Run_4:2.a-b", Task.REVIEW, 86_400_000)
    assert found.on_exhausted is OnExhausted.FAIL
    assert ask(headers={b"x-flatfee-workflow": b"x" * 128}).workflow == "x" * 128


@pytest.mark.parametrize("length", [1, 255])
def test_an_idempotency_key_has_up_to_255_characters(length: int) -> None:
    assert read_idempotency_key({}) is None
    assert read_idempotency_key({b"idempotency-key": b"k" * length}) == b"k" * length


@pytest.mark.parametrize("length", [0, 256])
def test_another_length_of_idempotency_key_is_refused(length: int) -> None:
    with pytest.raises(Fault, match=f"Idempotency-Key has {length} characters; send 1 to 255") as raised:
        read_idempotency_key({b"idempotency-key": b"k" * length})
    assert raised.value.param == "idempotency-key"


def test_a_body_is_told_from_another_only_under_its_own_key() -> None:
    """Equal prompts under different keys must not be seen to be equal."""
    digests = {digests_of(key, body)[1] for key in (b"k", b"l", b"k{}") for body in (b"{}", b"[]", b"")}
    assert len(digests) == 9
    assert digests_of(b"k", b"{}")[1] in digests


@pytest.mark.parametrize("key", [b"k", b"k" * 64, b"k" * 255])
def test_what_is_kept_of_a_key_does_not_tell_what_its_body_was(key: bytes) -> None:
    """The kept digest of the key is not enough to try bodies with."""
    kept, of_body = digests_of(key, b"{}")
    assert kept == hashlib.sha256(key).digest()
    tries = [hashlib.sha256(kept + b"{}").digest(), hmac.digest(kept, b"{}", "sha256"), digests_of(kept, b"{}")[1]]
    assert of_body not in tries


def test_absent_and_null_mean_the_same() -> None:
    names = "stream", "stream_options", "n", "max_tokens", "tools", "response_format", "reasoning_effort"
    found = ask(",".join(f'"{name}":null' for name in names))
    assert (found.stream, found.choices, found.output_tokens, found.tools) == (False, 1, None, False)


@pytest.mark.parametrize(
    ("fields", "output"),
    [
        ('"max_tokens":5', 5),
        ('"max_completion_tokens":7', 7),
        ('"max_tokens":5,"max_completion_tokens":7', 7),
        ('"max_tokens":2147483648', 2**31),
    ],
)
def test_the_newer_limit_of_output_goes_before_the_older(fields: str, output: int) -> None:
    assert ask(fields).output_tokens == output


@pytest.mark.parametrize(
    ("fields", "tools", "schema"),
    [
        ('"tools":[]', False, False),
        ('"tools":[{"type":"function"}]', True, False),
        ('"response_format":{"type":"json_schema","json_schema":{}}', False, True),
        ('"response_format":{"type":"json_object"}', False, False),
        ('"response_format":{}', False, False),
    ],
)
def test_tools_and_schemas_are_seen(fields: str, tools: bool, schema: bool) -> None:
    found = ask(fields)
    assert (found.tools, found.json_schema) == (tools, schema)


@pytest.mark.parametrize(("role", "open_loop"), [("tool", True), ("function", True), ("user", False)])
def test_a_tool_loop_is_open_while_the_last_message_is_a_result(role: str, open_loop: bool) -> None:
    messages = [{"role": "tool", "content": "1"}, {"role": role, "content": "2"}]
    assert ask_of({"messages": messages}).in_tool_loop is open_loop


def test_tokens_are_a_quarter_of_the_bytes_rounded_up() -> None:
    assert [estimate_tokens(size) for size in (0, 1, 4, 5, 8)] == [0, 1, 1, 2, 2]


def test_the_estimate_counts_messages_tools_and_schema() -> None:
    plain = ask_of({}).prompt_tokens
    assert ask_of({"messages": [{"role": "user", "content": "x" * 4000}]}).prompt_tokens >= plain + 990
    for name in ("tools", "functions"):
        assert ask_of({name: [{"description": "x" * 4000}]}).prompt_tokens >= plain + 1000
    assert ask_of({"response_format": {"type": "json_schema", "x": "x" * 4000}}).prompt_tokens >= plain + 1000
    assert ask_of({"metadata": {"x": "x" * 4000}}).prompt_tokens == plain


def image(data: str = "x" * 400_000) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}


def test_an_image_counts_by_the_piece_and_not_by_its_bytes() -> None:
    text = {"type": "text", "text": "What is this?"}
    none, one, two = (
        ask_of({"messages": [{"role": "user", "content": [text, *[image()] * count]}]}) for count in (0, 1, 2)
    )
    assert (none.images, one.images, two.images) == (False, True, True)
    assert 1000 <= one.prompt_tokens - none.prompt_tokens <= 1001
    assert 1000 <= two.prompt_tokens - one.prompt_tokens <= 1001


def test_everything_beside_an_image_still_counts() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "x" * 40_000}}
    messages = [
        {"role": "user", "content": [image("x")]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "y" * 40_000},
    ]
    assert ask_of({"messages": messages}).prompt_tokens > 20_000


def test_text_that_only_speaks_of_images_holds_none() -> None:
    said = ask_of({"messages": [{"role": "user", "content": 'Is "image_url" a key, and "image_url" a type?'}]})
    assert not said.images
    parts = [{"type": "text", "text": '"image_url" "image_url"'}]
    assert not ask_of({"messages": [{"role": "user", "content": parts}]}).images


@pytest.mark.parametrize("parts", [["image_url", "image_url"], [{"type": 7}, image("x"), image("x")]])
def test_odd_parts_are_passed_on_and_counted_as_text(parts: list[Any]) -> None:
    assert ask_of({"messages": [{"role": "user", "content": parts}]}).prompt_tokens > 1000


def upstream(found: Ask) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(body_for(found, "gpt-5.1", PLAIN))
    return decoded


def test_the_upstream_body_is_the_callers_with_the_routes_model() -> None:
    found = ask('"temperature":0.10,"seed":12345678901234567890,"x":{"deep":[1,null,"ü"]}')
    assert body_for(found, "gpt-5.1", PLAIN) == (
        b'{"model":"gpt-5.1",'
        + MESSAGES
        + b',"temperature":0.10,"seed":12345678901234567890,'
        + '"x":{"deep":[1,null,"ü"]}}'.encode()
    )


def test_a_model_with_odd_characters_stays_one_string() -> None:
    assert json.loads(body_for(ask(), 'a"b\\c\nü', PLAIN))["model"] == 'a"b\\c\nü'


def test_a_stream_always_asks_for_usage_and_keeps_the_other_options() -> None:
    assert upstream(ask('"stream":true'))["stream_options"] == {"include_usage": True}
    told = ask('"stream":true,"stream_options":{"include_usage":false,"include_obfuscation":false}')
    assert upstream(told)["stream_options"] == {"include_usage": True, "include_obfuscation": False}
    assert not told.include_usage
    assert ask('"stream":true,"stream_options":{"include_usage":true}').include_usage
    assert upstream(ask('"stream":true,"stream_options":null'))["stream_options"] == {"include_usage": True}


def test_without_a_stream_its_options_stay_as_they_came() -> None:
    assert "stream_options" not in upstream(ask())
    assert upstream(ask('"stream_options":{"x":1}'))["stream_options"] == {"x": 1}


@pytest.mark.parametrize("fields", ['"n":1,"n":3', '"n":1,"\\u006e":1', '"é":1,"n":2,"n":[],"é":2'])
def test_a_member_that_comes_twice_is_refused_whatever_it_says(fields: str) -> None:
    refused = fault({}, b'{"model":"auto",' + MESSAGES + f",{fields}}}".encode())
    assert "more than once" in refused.message
    assert refused.param in {"n", "é"}


def test_a_member_that_comes_twice_further_in_is_passed_on_as_it_came() -> None:
    found = ask('"x":{"a":1,"a":2}')
    assert b'{"a":1,"a":2}' in body_for(found, "m", PLAIN)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KNOWN = {
    "model", "messages", "stream", "stream_options", "n", "max_tokens", "max_completion_tokens", "tools",
    "functions", "response_format", "reasoning_effort",
}  # fmt: skip


@pytest.mark.slow
@given(st.dictionaries(st.text(max_size=12).filter(lambda name: name not in KNOWN), values, max_size=6))
def test_every_field_the_gateway_does_not_know_passes_byte_for_byte(fields: dict[str, Any]) -> None:
    raw = {name: json.dumps(value, ensure_ascii=False).encode() for name, value in fields.items()}
    body = b'{"model":"auto",' + MESSAGES
    for name, value in raw.items():
        body += b"," + msgspec.json.encode(name) + b":" + value
    sent = msgspec.json.decode(body_for(read_ask({}, body + b"}"), "m", PLAIN), type=dict[str, msgspec.Raw])
    assert {name: bytes(value) for name, value in sent.items() if name not in KNOWN} == raw


def read(headers: dict[bytes, bytes], body: bytes) -> None:
    """Read anything at all: it is served or refused, and what is served can be sent on."""
    try:
        found = read_ask(headers, body)
    except Fault:
        return
    json.loads(body_for(found, "m", PLAIN))


@given(st.binary(max_size=200))
@example(b"\xef\xbb\xbf{}")
@example(b"\x00")
def test_garbage_is_never_more_than_a_fault(body: bytes) -> None:
    read({}, body)


@pytest.mark.slow
@given(st.dictionaries(st.sampled_from(sorted(KNOWN)), values))
def test_known_fields_of_any_shape_are_never_more_than_a_fault(fields: dict[str, Any]) -> None:
    read({}, json.dumps({"model": "auto", "messages": [{"role": "user", "content": "x"}]} | fields).encode())


@pytest.mark.slow
@given(st.lists(st.fixed_dictionaries({"role": st.text()}, optional={"content": values}), min_size=1, max_size=4))
def test_messages_of_any_content_are_never_more_than_a_fault(messages: list[Any]) -> None:
    read({}, json.dumps({"model": "auto", "messages": messages}).encode())


@given(
    st.dictionaries(
        st.sampled_from(
            [b"x-flatfee-workflow", b"x-flatfee-task", b"x-flatfee-on-exhausted", b"x-flatfee-deadline-ms"]
        ),
        st.binary(max_size=40) | st.integers().map(lambda number: str(number).encode()),
    )
)
def test_headers_of_any_bytes_are_never_more_than_a_fault(headers: dict[bytes, bytes]) -> None:
    read(headers, b'{"model":"auto",' + MESSAGES + b"}")
