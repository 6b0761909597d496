"""The forms of faults, and what single ones do. What a client gets of each is in ``test_failure_table``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

import pytest

import flatfee
from flatfee.testing import Asked, Fault, Reply, ScriptedGateway, running_gateway
from flatfee.testing.faults.edge import EDGES
from flatfee.testing.faults.failing import FAULTS
from flatfee.testing.faults.fault import Kind
from flatfee.testing.faults.kinds import arguments
from flatfee.testing.faults.manners import MANNERS
from flatfee.testing.faults.refusing import Shape
from flatfee.testing.scripting.forms import ANSWERS, read_answer, read_rule
from flatfee.wire import retry_after

HELLO: dict[str, Any] = {"model": "premium", "messages": [{"role": "user", "content": "Hello"}]}
TEXT = "It is sunny in Lisbon."
SHAPES = get_args(Shape)


@pytest.fixture(scope="module")
def running() -> Iterator[ScriptedGateway]:
    with running_gateway(fair_use=1 << 50) as gateway:
        yield gateway


@pytest.fixture
def gateway(running: ScriptedGateway) -> ScriptedGateway:
    running.reset()
    return running


@pytest.fixture
def client(gateway: ScriptedGateway) -> flatfee.Client:
    return gateway.client(max_retries=0)


def asked(*, stream: bool = True) -> Asked:
    body = {**HELLO, "stream": stream, "stream_options": {"include_usage": True}}
    return Asked(
        number=1,
        attempt=1,
        nth=1,
        route="premium-a",
        tier="premium",
        model="premium-model-a",
        stream=stream,
        upstream=json.dumps(body).encode(),
        body=body,
    )


def said(fault: Fault, *, stream: bool = True) -> bytes:
    return b"".join(piece for piece in fault.play(asked(stream=stream)).pieces if isinstance(piece, bytes))


def text_of(client: flatfee.Client) -> str:
    stream = client.chat.completions.create(**HELLO, stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


# Forms


def test_every_kind_has_a_row_and_a_method_of_its_name() -> None:
    assert tuple(FAULTS) == get_args(Kind)
    for kind in FAULTS:
        assert set(arguments(Fault, kind)) <= set(Fault.model_fields)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("kind", [kind for kind in FAULTS if not any(arguments(Fault, kind).values())])
def test_what_is_left_out_is_the_same_in_json(kind: str, stream: bool) -> None:
    from_python, from_json = getattr(Fault, kind)(), read_answer({"kind": kind})
    assert from_python.play(asked(stream=stream)) == from_json.play(asked(stream=stream))  # type: ignore[union-attr]  # no Edge


def test_a_date_names_the_time_that_was_given() -> None:
    played = Fault.rate_limited(retry_after=3600).model_copy(update={"retry_after_as": "date"}).play(asked())
    assert retry_after(played.headers) == 3600


@pytest.mark.parametrize(
    "fault",
    [
        *(Fault.unreachable("untrusted"), Fault.connect_timeout(2), Fault.reset(stale=True)),
        *(Fault.status(503, retry_after=2, shape="anthropic"), Fault.body("page", status_code=502), Fault.encoded()),
        *(Fault.silent(after=3), Fault.slow(1.5), Fault.cuts(after=3, where="event", of=TEXT), Fault.ends(done=True)),
        *(Fault.error_event(after=2, shape="vllm"), Fault.broken_events(5), Fault.large_event(1024)),
        *(Fault.finishes("length"), Fault.odd("no usage"), Fault.cuts(of=Reply(text=TEXT, chunks=3))),
    ],
    ids=str,
)
def test_a_fault_is_the_same_as_json(fault: Fault) -> None:
    form = fault.model_dump(mode="json", exclude_unset=True)
    assert Fault.model_validate(form) == fault
    assert read_answer(json.loads(json.dumps(form))) == fault


def test_a_rule_from_json_is_for_routes_or_for_the_way_to_the_caller(
    gateway: ScriptedGateway, client: flatfee.Client
) -> None:
    read_rule({"replies": [{"kind": "status", "status_code": 503}], "route": "premium-a"}).add_to(gateway.rules)
    read_rule({"replies": [{"kind": "cut"}], "times": 1}).add_to(gateway.rules)
    with pytest.raises(flatfee.APIConnectionError):
        client.chat.completions.create(**HELLO)
    receipt = client.chat.completions.create(**HELLO).receipt
    assert receipt is not None
    assert receipt.reason == "provider_error"


def test_faults_and_edges_can_be_told_apart_as_json() -> None:
    assert set(FAULTS) & set(EDGES) == set()
    assert ANSWERS.keys() > FAULTS.keys() | EDGES.keys()


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({"kind": "reset", "after": 3}, "'reset' knows no 'after'; it takes stale"),
        ({"kind": "status", "retry_after": 3}, "needs a status_code that is not 200"),
        ({"kind": "status", "status_code": 503, "retry_after": -1}, "greater than or equal to 0"),
        ({"kind": "slow"}, "'slow' needs 'seconds'; it takes seconds, of"),
        ({"kind": "finishes", "reason": ""}, "at least 1 character"),
        ({"kind": "odd", "manner": "upside down"}, r"no manner 'upside down'; use one of: no \[DONE\], "),
        ({"kind": "cuts", "where": "choice", "after": 1}, "leave out 'after'"),
        ({"kind": "silent", "afterr": 1}, "did you mean 'after'"),
        ({"kind": "silent", "after": -1}, "greater than or equal to 0"),
        ({"kind": "large_event", "size": 1 << 30}, "less than or equal to"),
    ],
)
def test_a_form_that_cannot_be_names_value_and_cure(form: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Fault.model_validate(form)


def test_a_fault_is_written_as_it_was_made() -> None:
    assert str(Fault.status(503, retry_after=2)) == "Fault.status(status_code=503, retry_after=2.0)"
    with pytest.raises(ValueError, match="frozen"):
        Fault.reset().kind = "slow"


# What they do


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529])
def test_errors_have_the_shape_of_their_provider(shape: Shape, status: int) -> None:
    body = said(Fault.status(status, shape=shape, message="No."))
    if shape == "text":
        assert body == b"No."
        return
    told = json.loads(body)
    inner = told["error"]
    assert inner["message"] == "No."
    assert (told.get("type") == "error") is (shape == "anthropic")
    assert (inner.get("code") == status) is (shape in {"vllm", "llamacpp", "openrouter"})


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_an_error_in_mid_stream_ends_the_answer(
    shape: Shape, gateway: ScriptedGateway, client: flatfee.Client
) -> None:
    gateway.script(Fault.error_event(after=3, shape=shape, of=TEXT), route="premium-a")
    gateway.script("Something else.")
    with pytest.raises(flatfee.ServiceUnavailableError) as caught:
        text_of(client)
    assert caught.value.partial == "It is sunny in "
    assert caught.value.attempts[0].outcome == "error"


@pytest.mark.parametrize("shape", SHAPES)
def test_context_overflow_in_each_providers_words(
    shape: Shape, gateway: ScriptedGateway, client: flatfee.Client
) -> None:
    gateway.script(Fault.context_overflow(shape=shape), route="premium-a")
    receipt = client.chat.completions.create(**HELLO).receipt
    assert receipt is not None
    assert (receipt.lane, receipt.reason) == ("fallback", "context_overflow")


@pytest.mark.parametrize(("status", "error"), [(409, flatfee.ConflictError), (422, flatfee.UnprocessableEntityError)])
def test_a_refusal_that_no_route_could_cure_goes_to_the_caller(
    status: int, error: type[flatfee.APIStatusError], gateway: ScriptedGateway, client: flatfee.Client
) -> None:
    gateway.script(Fault.status(status, message="Never."), route="premium-a")
    with pytest.raises(error, match="Never") as caught:
        client.chat.completions.create(**HELLO)
    assert [(attempt.outcome, attempt.status) for attempt in caught.value.attempts] == [("refused", status)]


@pytest.mark.parametrize("reason", ["length", "content_filter"])
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_may_end_for_another_reason(
    reason: str, stream: bool, gateway: ScriptedGateway, client: flatfee.Client
) -> None:
    gateway.script(Fault.finishes(reason, of=TEXT))
    answer: Any = client.chat.completions.create(**HELLO, stream=stream)
    choices = [chunk.choices[0] for chunk in answer if chunk.choices] if stream else answer.choices
    assert choices[-1].finish_reason == reason


@pytest.mark.parametrize(
    ("fault", "waited"),
    [
        (Fault.rate_limited(retry_after=2), 2.0),
        (Fault.status(429, retry_after=2, retry_after_as="date"), 2.0),
        (Fault.status(503, retry_after=1.5, retry_after_as="milliseconds"), 1.5),
    ],
    ids=str,
)
def test_a_route_is_asked_again_after_the_wait_that_it_asked_for(
    fault: Fault, waited: float, gateway: ScriptedGateway, client: flatfee.Client
) -> None:
    gateway.script(fault, "well", route="premium-a")
    before = gateway.now
    assert client.chat.completions.create(**HELLO).choices[0].message.content == "well"
    first, second = (tried.at or 0.0 for tried in gateway.journal.last.tried)
    assert second - first == pytest.approx(waited, abs=0.1)
    assert (gateway.now - before).total_seconds() >= waited


def test_no_character_is_broken_by_a_cut_within_one(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    gateway.script(Fault.cuts(after=2, where="character", of="Grüße aus Zürich, und aus Genève."), route="premium-a")
    gateway.script("Something else.")
    with pytest.raises(flatfee.ServiceUnavailableError) as caught:
        text_of(client)
    assert caught.value.partial == "Grüße aus "
    assert said(Fault.cuts(after=1, where="character", of="Grüße")).endswith(b"\xc3")


def test_a_cut_strikes_before_the_finish_however_late_it_was_meant() -> None:
    cut = said(Fault.cuts(after=1000, of=TEXT))
    assert b"Lisbon" in cut
    assert b'"finish_reason":"stop"' not in cut


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [(Fault.slow(90.0, of=TEXT), "ok"), (Fault.broken_events(9, of=TEXT), "ok"), (Fault.ends(of=TEXT), "error")],
    ids=str,
)
def test_faults_of_streams_have_a_plain_form(
    fault: Fault, outcome: str, gateway: ScriptedGateway, client: flatfee.Client
) -> None:
    gateway.script(fault, route="premium-a")
    gateway.script(TEXT)
    before = gateway.now
    answer = client.chat.completions.create(**HELLO)
    assert answer.choices[0].message.content == TEXT
    assert answer.receipt is not None
    assert answer.receipt.attempts
    assert answer.receipt.attempts[0].outcome == outcome
    assert fault.kind != "slow" or (gateway.now - before).total_seconds() >= 90


def test_ten_megabytes_in_one_event_arrive(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    gateway.script(Fault.large_event())
    assert len(text_of(client)) == 10 << 20


def test_without_a_text_the_default_models_answer_is_struck(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    whole = text_of(client)
    gateway.reset()
    gateway.script(Fault.cuts(after=3), route="premium-a")
    with pytest.raises(flatfee.ServiceUnavailableError) as caught:
        text_of(client)
    assert caught.value.partial
    assert whole.startswith(caught.value.partial)


def test_a_silence_costs_no_real_time_unless_time_does_not_skip(gateway: ScriptedGateway) -> None:
    gateway.script(Fault.silent(), route="premium-a")
    before = gateway.now
    answer = gateway.client().chat.completions.create(**HELLO)
    assert answer.receipt is not None
    assert answer.receipt.reason == "provider_timeout"
    assert (gateway.now - before).total_seconds() >= 600


@pytest.mark.parametrize("manner", MANNERS)
def test_every_manner_leaves_the_answer_whole(manner: str, gateway: ScriptedGateway, client: flatfee.Client) -> None:
    gateway.script(Fault.odd(manner, of=TEXT), route="premium-a")
    text = text_of(client).encode("utf-16", "surrogatepass").decode("utf-16")
    assert text.removesuffix("🚀") == TEXT
    assert client.chat.completions.create(**HELLO).choices[0].message.content == TEXT
