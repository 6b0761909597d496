"""The rules of compaction, one by one: what is trimmed, in which order, and what stands there then."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw
from tests.server.compaction.conversations import (
    LONG,
    Message,
    calls,
    compacted,
    fields_of,
    result,
    says,
    settle,
    step,
    tokens,
    user,
)

from flatfee.server.compaction.compact import compact
from flatfee.server.compaction.wording import SHORTEST, shortened

OTHER = LONG.replace("line", "row")
LAST = user("x" * 2000)
"""What makes a conversation too large only now, when all before it is old."""


def first_rule_only(messages: list[Message]) -> dict[str, Any]:
    """Return the contents of the results, after the first thing that compaction does."""
    messages = [*messages, LAST]
    whole = tokens(fields_of(messages))
    trimmed = compacted(messages, over=whole - 100, to=whole - 100)
    return {message["tool_call_id"]: message["content"] for message in trimmed if message["role"] == "tool"}


def test_a_newer_reading_of_a_file_supersedes_the_older() -> None:
    unrelated = step("c0", "grep", {"pattern": "x"}, OTHER)
    run = [
        user("Go."),
        *unrelated,
        *step("c1", "read_file", {"path": "a.py"}),
        *step("c2", "read_file", {"path": "a.py"}, OTHER[:-1]),
    ]
    told = first_rule_only([*run, *settle()])
    assert told["c1"] == (
        f"[superseded: a newer result of read_file(path=a.py) follows; {len(LONG):,} characters left out]"
    )
    assert (told["c0"], told["c2"]) == (OTHER, OTHER[:-1])


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("write_file", {"path": "./a.py", "content": "new"}),
        ("applyPatch", {"filePath": "a.py"}),
        ("edit", {"target_file": "a.py"}),
        ("str_replace_based_edit_tool", {"command": "str_replace", "path": "a.py"}),
        ("edit", {"mode": "w", "path": "a.py"}),
    ],
)
def test_a_later_change_of_a_file_supersedes_what_was_read_of_it(tool: str, arguments: dict[str, Any]) -> None:
    reading = step("c1", "view", {"path": "a.py", "lines": [1, 9]})
    told = first_rule_only(
        [
            user("Go."),
            *step("c0", "grep", {"pattern": "x"}, OTHER),
            *reading,
            *step("c2", tool, arguments, "ok"),
            *settle(),
        ]
    )
    assert told["c1"].startswith(f"[superseded: a later {tool}(")
    assert told["c0"] == OTHER


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        (("read_file", {"path": "a.py"}), ("read_file", {"path": "b.py"})),
        (("read_file", {"path": "a.py"}), ("read_file", {"path": "a.py", "from": 50})),
        (("read_file", {"path": "a.py"}), ("stat_file", {"path": "a.py"})),
        (("bash", {"command": "cat a.py"}), ("bash", {"command": "cat b.py"})),
        (("editor", {"command": "view", "path": "a.py"}), ("editor", {"command": "view", "path": "a.py", "range": 1})),
        (("read_file", "not JSON"), ("read_file", "not JSON either")),
        (("read_file", {"path": 7}), ("read_file", {"path": 8})),
    ],
)
def test_what_tells_something_else_supersedes_nothing(earlier: Any, later: Any) -> None:
    run = [user("Go."), calls(("c1", *earlier)), result("c1", LONG), calls(("c2", *later)), result("c2", OTHER)]
    told = first_rule_only([*run, *settle()])
    assert told["c1"] == shortened(LONG), "the oldest is shortened, and nothing was superseded"


def test_the_same_call_again_supersedes_its_older_result_whatever_the_tool() -> None:
    older = step("c1", "run_tests", {"only": "x", "verbose": True})
    newer = step("c2", "run_tests", {"verbose": True, "only": "x"}, OTHER)
    told = first_rule_only([user("Go."), *step("c0", "grep", {"pattern": "x"}, OTHER[1:]), *older, *newer, *settle()])
    assert told["c1"].startswith("[superseded: a newer result of run_tests(…) follows")


def test_the_same_result_of_another_call_is_told_once_and_the_newest_stays() -> None:
    run = [
        *step("c0", "grep", {"pattern": "x"}, OTHER),
        *step("c1", "bash", {"command": "a"}),
        *step("c2", "bash", {"command": "b"}),
    ]
    told = first_rule_only([user("Go."), *run, *settle()])
    assert told["c1"] == f"[repeated: the same tool result comes again later; {len(LONG):,} characters left out]"
    assert (told["c0"], told["c2"]) == (OTHER, LONG)


def test_old_results_are_shortened_oldest_first_and_only_then_left_out() -> None:
    run = [message for number in range(3) for message in step(f"c{number}", "grep", {"q": number}, f"{number}{LONG}")]
    messages = [user("Go."), *run, *settle(), LAST]
    whole = tokens(fields_of(messages))
    seen: list[list[str]] = []
    for saved in range(100, whole, 50):
        kinds = []
        for message in compacted(messages, over=whole - 100, to=whole - saved):
            if message["role"] == "tool":
                text = message["content"]
                kinds.append("marker" if text.startswith("[") else "short" if "left out" in text else "whole")
        if not seen or seen[-1] != kinds:
            seen.append(kinds)
    assert seen == [
        ["short", "whole", "whole"],
        ["short", "short", "whole"],
        ["short", "short", "short"],
        ["marker", "short", "short"],
        ["marker", "marker", "short"],
        ["marker", "marker", "marker"],
    ]


def test_what_gave_way_to_a_marker_is_left_alone_however_small_the_target() -> None:
    run = [*step("c1", "read_file", {"path": "a.py"}), *step("c2", "read_file", {"path": "a.py"}, OTHER)]
    messages = [user("Go."), *run, *settle(), LAST]
    told = compacted(messages, over=tokens(fields_of(messages)) - 100, to=1)
    assert told[2]["content"].startswith("[superseded: ")
    assert told[4]["content"].startswith("[old result of ")


def test_an_old_result_that_was_kept_gives_way_once_a_later_one_supersedes_it() -> None:
    first = [user("Go."), *step("c0", "grep", {"q": 1}), *step("c1", "read_file", {"path": "a.py"}), *settle(), LAST]
    over = tokens(fields_of(first)) - 100
    assert compacted(first, over=over, to=over)[4]["content"] == LONG
    more = [*first, says("ok"), *step("c2", "read_file", {"path": "a.py"}, OTHER), *settle(), user("x" * 4000)]
    told = compacted(more, over=over, to=over)
    assert told[2]["content"] == compacted(first, over=over, to=over)[2]["content"]
    assert told[4]["content"].startswith("[superseded: ")


def test_a_marker_that_takes_more_than_what_it_stands_for_is_not_put_there() -> None:
    messages = [user("Go."), *step("c1", "read_file", {"path": "😀" * 96}, "x" * (SHORTEST + 10)), *settle()]
    assert compact(fields_of(messages), over=1, to=0, keep_turns=1) is None


def test_a_shortened_text_has_its_first_and_last_lines_and_says_how_much_is_missing() -> None:
    text = shortened(LONG)
    head, _, tail = text.partition("[")
    told, _, tail = tail.partition("]\n")
    assert LONG.startswith(head)
    assert LONG.endswith(tail)
    assert head.endswith("\n")
    assert LONG[-len(tail) - 1] == "\n"
    assert told == f"{len(LONG) - len(head) - len(tail):,} characters left out"


def test_a_text_of_one_line_is_cut_between_characters() -> None:
    text = shortened("😀" * 5000)
    assert text == "😀" * 400 + "\n[4,400 characters left out]\n" + "😀" * 200


def test_the_newest_answers_and_what_follows_them_stay_as_they_came() -> None:
    run = [user("Go."), *[message for n in range(6) for message in step(f"c{n}", "grep", {"q": 1})]]
    told = {
        message["tool_call_id"]: message["content"]
        for message in compacted(run, keep_turns=2)
        if "tool_call_id" in message
    }
    assert [text == LONG for text in told.values()] == [False] * 4 + [True] * 2


def test_words_of_people_and_of_the_model_and_calls_stay_however_long() -> None:
    messages = [
        {"role": "system", "content": LONG * 3},
        {"role": "developer", "content": LONG * 3},
        user(LONG * 3),
        says(LONG * 3),
        *step("c1", "write_file", {"path": "a.py", "content": LONG}, "ok"),
        *step("c2", "write_file", {"path": "a.py", "content": LONG}, "ok"),
        *settle(),
    ]
    assert compact(fields_of(messages), over=1, to=0, keep_turns=1) is None


def test_text_parts_are_trimmed_and_images_and_what_else_a_part_says_stay() -> None:
    image: Message = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 5000}}
    parts = [
        {"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}},
        image,
        {"type": "text", "text": "ok"},
    ]
    told = compacted([user("Go."), *step("c1", "look", {}, parts), *settle()])[2]["content"]
    assert told == [
        {**parts[0], "text": f"[old result of look(…); {len(LONG):,} characters left out]"},
        image,
        parts[2],
    ]


def test_results_of_legacy_functions_are_trimmed_and_keep_their_names() -> None:
    call = {
        "role": "assistant",
        "content": None,
        "function_call": {"name": "read_file", "arguments": '{"path": "a.py"}'},
    }
    told = compacted([user("Go."), call, {"role": "function", "name": "read_file", "content": LONG}, *settle()])
    assert told[2] == {
        "role": "function",
        "name": "read_file",
        "content": f"[old result of read_file(path=a.py); {len(LONG):,} characters left out]",
    }


def test_a_result_belongs_to_the_nearest_call_of_its_id() -> None:
    run = [*step("0", "read_file", {"path": "a.py"}, LONG), *step("0", "read_file", {"path": "b.py"}, OTHER)]
    told = [message["content"] for message in compacted([user("Go."), *run, *settle()]) if message["role"] == "tool"]
    assert ["path=a.py" in told[0], "path=b.py" in told[1]] == [True, True]


def test_a_result_belongs_to_no_call_where_one_answer_has_its_id_twice() -> None:
    """Some services give every call of an answer the same id: neither is the newer result of the other's call."""
    both = [("", "read_file", {"path": "a.py"}), ("", "read_file", {"path": "b.py"})]
    run = [user("Go."), calls(*both), result("", LONG), result("", OTHER), *settle()]
    told = [message["content"] for message in compacted(run) if message["role"] == "tool"]
    assert told == [f"[old tool result; {len(text):,} characters left out]" for text in (LONG, OTHER)]


def test_a_marker_is_bounded_and_on_one_line_whatever_a_call_says() -> None:
    wild = step("c1", "n" * 5000, {"path": "p\n\x1b" * 5000})
    told = compacted([user("Go."), *wild, *settle()])[2]["content"]
    assert len(told) < SHORTEST
    assert told.isprintable()


@pytest.mark.parametrize("content", [LONG[:SHORTEST], None, "", [], [{"type": "text", "text": "short"}], {"a": 1}])
def test_what_is_short_or_no_text_stays(content: object) -> None:
    assert (
        compact(fields_of([user("Go."), *step("c1", "look", {}, content), *settle()]), over=1, to=0, keep_turns=1)
        is None
    )


def test_untouched_messages_keep_their_bytes_and_trimmed_ones_their_other_members() -> None:
    odd = b'{ "role" : "user",  "content":"\\u00e9", "big": 123456789012345678901234567890 }'
    told = b'{"role":"tool","x":1e400,"tool_call_id":"c","content":' + json.dumps(LONG).encode() + b',"y":[ 1 ]}'
    last = b'{"role":"assistant","content":"done"}'
    found = compact({"messages": Raw(b"[%b, %b,%b]" % (odd, told, last))}, over=1, to=0, keep_turns=1)
    assert found is not None
    assert bytes(found.messages) == b"[%b,%b,%b]" % (
        odd,
        b'{"role":"tool","x":1e400,"tool_call_id":"c","content":"[old tool result; %b characters left out]","y":[ 1 ]}'
        % f"{len(LONG):,}".encode(),
        last,
    )


@pytest.mark.parametrize(
    "messages",
    [
        b"[",
        b"{}",
        b"[1, null, [], {}]",
        b'[{"role": 7}]',
        b'[{"role":"assistant","tool_calls":[{"id":1},{"id":"c","function":{"name":null}},7]},{"role":"tool"}]',
        b'[{"role":"assistant","tool_calls":{},"function_call":[]},{"role":"tool","tool_call_id":[]}]',
        b'[{"role":"tool","content":' + b"[" * 100_000 + b"]" * 100_000 + b"}]",
        b'[{"role":"tool","content":"\\ud800' + b"x" * 1000 + b'"},{"role":"assistant"}]',
    ],
)
def test_what_cannot_be_read_stays_as_it_came(messages: bytes) -> None:
    assert compact({"messages": Raw(messages)}, over=1, to=0, keep_turns=1) is None


def test_what_a_tool_is_told_to_do_counts_more_than_its_name() -> None:
    editor = "str_replace_based_edit_tool"
    first, again = [
        step(id_, editor, {"command": "view", "path": "a.py"}, text) for id_, text in (("c1", LONG), ("c2", OTHER))
    ]
    part = step("c0", editor, {"command": "view", "path": "a.py", "view_range": [1, 9]}, LONG[1:])
    told = compacted([user("Go."), *part, *first, *again, *settle(), LAST], over=2000)
    assert ["superseded" in message["content"] for message in told if message["role"] == "tool"] == [True, True, False]


def test_a_conversation_of_more_messages_than_any_run_has_stays_as_it_is() -> None:
    beyond = [user("Go.")] * 10_000
    run = [*step("c1", "read_file", {"path": "a.py"}), *settle()]
    assert compacted([*run, *beyond[: -len(run)]]) != [*run, *beyond[: -len(run)]]
    assert compacted([*run, *beyond]) == [*run, *beyond]
