"""However a body is written, short or long, tightly or with spaces: it is read alike, and no member twice."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from flatfee.server.ask import _SHORT, Ask, read_ask
from flatfee.server.faults import Fault

MESSAGES: list[Any] = [{"role": "user", "content": "Größe 12"}, {"role": "tool", "content": [{"type": "text"}]}]
PLAUSIBLE: dict[str, list[Any]] = {
    "model": ["auto", "premium", "", 7, None],
    "messages": [MESSAGES, MESSAGES[:1], [], [{}], {}],
    "stream": [True, False, None, "yes"],
    "stream_options": [{"include_usage": True}, {}, None, []],
    "n": [1, 128, 0, 1.5, "1"],
    "max_tokens": [1, 2**31, -1, None],
    "tools": [[], [{"type": "function"}], {}],
    "response_format": [{"type": "json_schema"}, {"type": "json_object"}, {}, [], 'a", "n": 1'],
    "reasoning_effort": ["high", None, 3],
    "é": [1],
    "a/b": ['"', "\\", '{"x": 1, "x": 2}'],
    "": [0],
}


@st.composite
def members(draw: st.DrawFn) -> str:
    """One member as somebody may write it: its name, or parts of it, by number as well."""
    name = draw(st.sampled_from(sorted(PLAUSIBLE)) | st.text(max_size=3))
    value = draw(st.sampled_from(PLAUSIBLE.get(name, [0, "x"])))
    ascii_only, by_number, slash = draw(st.booleans()), draw(st.integers(0, 9)) == 0, draw(st.booleans())
    written = json.dumps(name, ensure_ascii=ascii_only)
    if by_number and name:
        written = '"' + "".join(f"\\u{ord(sign):04x}" if ord(sign) < 1 << 16 else sign for sign in name) + '"'
    if slash:
        written = written.replace("/", "\\/")
    before, after = draw(st.sampled_from([("", ""), ("", " "), (" ", "\n"), ("", "\t ")]))
    separators = draw(st.sampled_from([(",", ":"), (", ", ": ")]))
    return f"{written}{before}:{after}{json.dumps(value, ensure_ascii=ascii_only, separators=separators)}"


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A body, most often one that can be served; as one of the usual writers has it, or as nobody would."""
    if draw(st.booleans()):
        whole = {"model": "auto", "messages": MESSAGES}
        for name in draw(st.lists(st.sampled_from(sorted(PLAUSIBLE)), max_size=6)):
            whole[name] = draw(st.sampled_from(PLAUSIBLE[name]))
        separators = draw(st.sampled_from([(",", ":"), (", ", ": ")]))
        written = json.dumps(whole, ensure_ascii=draw(st.booleans()), separators=separators)
    else:
        written = "{" + draw(st.sampled_from([",", ", "])).join(draw(st.lists(members(), max_size=6))) + "}"
    if draw(st.booleans()):
        more = draw(members())
        written = f"{written[:-1]}{', ' if ', ' in written else ','}{more}}}" if written != "{}" else f"{{{more}}}"
    return written.encode("utf-8", "surrogatepass")


def outcome(body: bytes) -> dict[str, Any]:
    """Return all that a body is read as, or what it is refused with."""
    try:
        found = read_ask({}, body)
    except Fault as fault:
        return {"code": fault.code, "message": fault.message, "param": fault.param}
    return {name: getattr(found, name) for name in Ask.__struct_fields__} | {"fields": bytes_of(found)}


def bytes_of(found: Ask) -> list[tuple[str, bytes]]:
    return [(name, bytes(value)) for name, value in found.fields.items()]


@given(bodies())
@example(b'{"model":"auto","messages":[{"role":"user"}],"n":1,"\\u006e":2}')
@example(b'{"model": "auto", "messages": [{"role": "user"}], "n": 1, "n": 1}')
@example(b'{"model": "auto","messages":[{"role":"user"}],"aaaa":1,"aaaa":1}')
@example(b"[]")
def test_a_short_body_is_read_as_a_long_one(body: bytes) -> None:
    """Spaces behind a body change nothing but how it is looked at."""
    assert len(body) <= _SHORT
    assert outcome(body) == outcome(body + b" " * _SHORT)


@given(bodies())
@example(b'{"model":"auto","messages":[{"role":"user"}],"n":1,"n":1}')
@example(b'{"model": "auto", "messages": [{"role": "user"}], "n": 1, "n": 1}')
@example(b'{"model":"auto","messages":[{"role":"user"}],"a":1, "b":12,"a":1}')
def test_a_body_is_read_whole_if_no_member_comes_twice_and_refused_if_one_does(body: bytes) -> None:
    names = [name for name, _ in json.loads(body, object_pairs_hook=list)]
    told = outcome(body)
    if len(set(names)) < len(names):
        assert "more than once" in told["message"]
    elif "fields" in told:
        read = {name: msgspec.json.decode(value) for name, value in told["fields"]}
        assert (list(read), read) == (names, json.loads(body))
    else:
        assert "more than once" not in told["message"]
