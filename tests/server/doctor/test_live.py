"""Each route is asked for a token, and what is wrong with it is told with its cure."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from flatfee.server.doctor.finding import Finding, Verdict
from flatfee.server.doctor.live import try_routes
from flatfee.server.settings import Settings

KEY = "sk-canary-of-the-doctor"
ENV = {"UP_KEY": KEY}
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}

Answer = Callable[["Asked"], None]


class Asked(BaseHTTPRequestHandler):
    """One request to a fake provider; what it answers is the server's ``answer``."""

    server: Fake

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.bodies.append(body)
        self.server.keys.append(self.headers["authorization"])
        self.server.answer(self)

    def do_GET(self) -> None:
        self.server.lists.append((self.path, self.headers["authorization"] or self.headers["x-api-key"]))
        self.tell(200, json.dumps(self.server.models)) if self.server.models is not None else self.tell(404, "{}")

    def tell(self, status: int, text: str) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Log nothing."""


class Fake(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, answer: Answer, models: object) -> None:
        super().__init__(("127.0.0.1", 0), Asked)
        self.answer = answer
        self.models = models
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.lists: list[tuple[str, str | None]] = []


@contextmanager
def providing(answer: Answer, models: object = None) -> Iterator[Fake]:
    with Fake(answer, models) as fake:
        thread = threading.Thread(target=fake.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield fake
        finally:
            fake.shutdown()
            thread.join()


def settings(port: int, *, provider: dict[str, Any] | None = None, **route: Any) -> Settings:
    up = {"name": "up", "kind": "openai", "base_url": f"http://127.0.0.1:{port}/v1", "api_key_env": "UP_KEY"}
    return Settings.model_validate(
        {
            "providers": [up | (provider or {})],
            "routes": [{"name": "r", "provider": "up", "model": "m-1", "tier": "premium", **route}],
            "plans": [{"name": "pro", "fair_use": 1000}],
        }
    )


def tried(fake: Fake, patience: float = 20.0, **options: Any) -> list[Finding]:
    found = try_routes(settings(fake.server_port, **options), ENV, patience=patience)
    assert not [finding for finding in found if KEY in finding.found + (finding.cure or "")]
    assert {finding.check for finding in found} == {"route r"}
    return found


def chunk(**members: Any) -> str:
    return f"data: {json.dumps({'object': 'chat.completion.chunk', **members})}\n\n"


def streamed(model: str = "m-1", *, usage: bool = True) -> Answer:
    said = chunk(model=model, choices=[{"index": 0, "delta": {"content": "pong"}}])
    end = chunk(model=model, choices=[{"index": 0, "delta": {}, "finish_reason": "length"}])
    told = chunk(model=model, choices=[], usage=USAGE) if usage else ""
    return lambda asked: asked.tell(200, f"{said}{end}{told}data: [DONE]\n\n")


def plain(asked: Asked) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "pong"}, "finish_reason": "stop"}
    asked.tell(200, json.dumps({"object": "chat.completion", "model": "m-1", "choices": [choice], "usage": USAGE}))


def refusing(status: int, **error: str) -> Answer:
    return lambda asked: asked.tell(status, json.dumps({"error": {"message": f"no: {KEY}", **error}}))


def test_a_route_that_answers_is_asked_for_one_token_and_told_with_its_time() -> None:
    with providing(streamed()) as fake:
        (found,) = tried(fake)
    assert found.verdict is Verdict.OK
    assert found.found.startswith("it answered in ")
    assert found.found.endswith(" ms, and told usage")
    (body,) = fake.bodies
    assert (body["model"], body["stream"], body["max_completion_tokens"]) == ("m-1", True, 1)
    assert body["stream_options"] == {"include_usage": True}
    assert fake.keys == [f"Bearer {KEY}"]
    assert fake.lists == [("/v1/models", f"Bearer {KEY}")]


def test_the_model_is_told_where_the_provider_names_another() -> None:
    with providing(streamed("m-1-2026-03-01")) as fake:
        (found,) = tried(fake)
    assert ", as 'm-1-2026-03-01', and told usage" in found.found


def test_a_stream_without_usage_is_a_warning() -> None:
    with providing(streamed(usage=False)) as fake:
        (found,) = tried(fake)
    assert found.verdict is Verdict.WARN
    assert found.found.endswith("told no usage")
    assert found.cure is not None
    assert "estimates" in found.cure


def test_a_plain_answer_where_a_stream_was_asked_for_is_an_answer() -> None:
    with providing(plain) as fake:
        (found,) = tried(fake)
    assert found.verdict is Verdict.OK


def test_a_limit_that_is_refused_is_asked_for_by_its_other_name() -> None:
    def picky(asked: Asked) -> None:
        refused = "max_completion_tokens" in asked.server.bodies[-1]
        (refusing(400, code="unsupported_parameter") if refused else streamed())(asked)

    with providing(picky) as fake:
        (found,) = tried(fake)
    assert found.verdict is Verdict.OK
    assert [body.get("max_tokens") for body in fake.bodies] == [None, 16]


def test_a_model_that_must_think_before_it_says_anything_may() -> None:
    def thinking(asked: Asked) -> None:
        (refusing(400) if asked.server.bodies[-1]["max_completion_tokens"] < 100 else streamed())(asked)

    with providing(thinking) as fake:
        (found,) = tried(fake, provider={"dialect": {"output_limit": "max_completion_tokens"}})
    assert found.verdict is Verdict.OK
    assert [body["max_completion_tokens"] for body in fake.bodies] == [1, 16, 1024]


def test_an_answer_without_end_is_cut_off() -> None:
    one = chunk(model="m-1", choices=[{"index": 0, "delta": {"content": "x" * 1000}}])
    with providing(lambda asked: asked.tell(200, one * 300)) as fake:
        found = tried(fake)
    assert [finding.found for finding in found][1:] == ["it went on where one token was asked for"]


@pytest.mark.parametrize(
    ("answer", "verdict", "told", "cure"),
    [
        (refusing(401, code="invalid_api_key"), Verdict.FAIL, "the key is refused (401, invalid_api_key)", "UP_KEY"),
        (refusing(429, code="insufficient_quota"), Verdict.FAIL, "nothing left to spend (429, insuf", "Top it up"),
        (refusing(402), Verdict.FAIL, "nothing left to spend (402)", "Top it up"),
        (refusing(403, code="forbidden"), Verdict.FAIL, "this is not allowed (403, forbidden)", "'m-1'"),
        (
            lambda asked: asked.tell(400, '{"error": {"message": "User location is not supported for the API use."}}'),
            *(Verdict.FAIL, "this is not allowed (400)", "from which country"),
        ),
        (refusing(404, code="model_not_found"), Verdict.FAIL, "there is no model 'm-1' (404, model_not_", "lists"),
        (lambda asked: asked.tell(404, "<html>"), Verdict.FAIL, "under this address and model (404)", "/v1"),
        (lambda asked: asked.tell(301, ""), Verdict.FAIL, "under this address and model (301)", "/v1"),
        (refusing(429, code="rate_limit"), Verdict.WARN, "it is at its rate limit (429, rate_limit)", "Wait"),
        (refusing(503, code="a b\x1b[2J"), Verdict.FAIL, "in trouble (503)", "status page"),
        (refusing(422, type="odd"), Verdict.FAIL, "a question of one word is refused (422, odd)", "dialect"),
        (lambda asked: asked.tell(200, "<html>hello"), Verdict.FAIL, "is neither a completion nor a", "base_url"),
        (lambda asked: asked.tell(200, "{}"), Verdict.FAIL, "what came has no choices", "base_url"),
        (lambda asked: asked.tell(200, ""), Verdict.FAIL, "is neither a completion nor a", "base_url"),
        (lambda asked: asked.tell(200, f"[{'0,' * 150_000}0]"), Verdict.FAIL, "has more than 262144 bytes", "base_url"),
    ],
)
def test_what_goes_wrong_has_a_cause_and_a_cure(answer: Answer, verdict: Verdict, told: str, cure: str) -> None:
    with providing(answer) as fake:
        (found,) = tried(fake)
    assert found.verdict is verdict
    assert told in found.found
    assert cure in (found.cure or "")
    assert "no: " not in found.found


def test_an_error_in_the_stream_is_a_failure() -> None:
    with providing(lambda asked: asked.tell(200, 'data: {"error": {"message": "out of memory"}}\n\n')) as fake:
        (found,) = tried(fake)
    assert found.verdict is Verdict.FAIL
    assert "out of memory" not in found.found


def test_silence_ends_with_the_patience() -> None:
    over = threading.Event()

    def silent(asked: Asked) -> None:
        over.wait(30)
        asked.close_connection = True

    with providing(silent) as fake:
        (found,) = tried(fake, patience=0.2)
        over.set()
    assert (found.verdict, found.found) == (Verdict.FAIL, "no whole answer came within 0.2 s")


def test_a_provider_that_nobody_serves_cannot_be_reached() -> None:
    with providing(streamed()) as fake:
        pass
    (found,) = tried(fake)
    assert (found.verdict, found.found) == (Verdict.FAIL, "its provider cannot be reached")


def test_a_route_whose_key_is_missing_is_not_asked() -> None:
    with providing(streamed()) as fake:
        (found,) = try_routes(settings(fake.server_port), {})
    assert (found.verdict, found.found) == (Verdict.FAIL, "it was not asked: its key UP_KEY is not set")
    assert fake.bodies == []


def test_a_key_that_its_provider_tells_back_is_not_shown() -> None:
    for answer in (refusing(418, code=KEY), streamed(KEY)):
        with providing(answer) as fake:
            (found,) = tried(fake)
        assert "…" in found.found


def test_a_key_that_its_row_names_is_named_where_it_is_refused() -> None:
    with providing(refusing(401)) as fake:
        named = settings(fake.server_port, provider={"kind": "azure-openai", "api_key_env": None})
        (found,) = try_routes(named, {"AZURE_OPENAI_API_KEY": KEY})
    assert "Check the value of AZURE_OPENAI_API_KEY" in (found.cure or "")


def test_a_key_that_no_header_may_hold_is_not_sent() -> None:
    with providing(streamed()) as fake:
        (found,) = try_routes(settings(fake.server_port), {"UP_KEY": f"{KEY}\n"})
    assert (found.verdict, found.found) == (Verdict.FAIL, "it was not asked: its key UP_KEY cannot stand in a header")
    assert KEY not in (found.cure or "")
    assert (fake.bodies, fake.lists) == ([], [])


@pytest.mark.parametrize(
    ("context", "told"),
    [
        (None, "the file says nothing of its context; its provider tells 8,192 tokens"),
        (9000, "context_tokens is 9,000; its provider tells 8,192"),
        (8192, None),
    ],
)
def test_the_context_of_the_file_is_held_against_the_providers(context: int | None, told: str | None) -> None:
    with providing(streamed(), {"object": "list", "data": [{"id": "m-1", "context_length": 8192}]}) as fake:
        answered, *found = tried(fake, context_tokens=context)
    assert answered.verdict is Verdict.OK
    assert [finding.found for finding in found] == ([told] if told else [])
    assert all(finding.cure and "Write context_tokens = 8192" in finding.cure for finding in found)


def test_a_size_is_found_under_the_name_that_the_provider_gives_the_model() -> None:
    with providing(streamed("m-1-2026"), [{"id": "m-1-2026", "max_model_len": 4096}]) as fake:
        _, found = tried(fake)
    assert "its provider tells 4,096 tokens" in found.found


def test_a_model_that_is_not_listed_is_told_with_those_that_are_near_if_it_did_not_answer() -> None:
    models = {"data": [{"id": "m-1-large"}, {"id": "embed"}]}
    with providing(refusing(404), models) as fake:
        _, found = tried(fake)
    assert found.found == "its provider does not list the model 'm-1'"
    assert found.cure == "Write a model that it lists, such as 'm-1-large'."
    with providing(streamed(), models) as fake:
        assert len(tried(fake)) == 1


def test_a_first_token_that_came_too_late_for_its_route_is_a_warning() -> None:
    with providing(streamed()) as fake:
        _, found = tried(fake, first_token_timeout=1e-6)
    assert (found.verdict, found.found) == (
        Verdict.WARN,
        "its first token came after its first_token_timeout of 1e-06 s",
    )


def test_anthropics_own_errors_and_list_are_understood() -> None:
    refused = {"type": "error", "error": {"type": "authentication_error", "message": f"invalid x-api-key {KEY}"}}
    with providing(lambda asked: asked.tell(401, json.dumps(refused)), {"data": [{"id": "claude-x"}]}) as fake:
        named = settings(fake.server_port, provider={"kind": "anthropic"})
        found, missed = try_routes(named, ENV)
    assert found.found.startswith("the key is refused (401")
    assert "its provider does not list the model" in missed.found
    assert fake.lists == [("/v1/models?limit=1000", KEY)]
    assert fake.bodies[0]["max_tokens"] == 1


def test_simulated_routes_answer() -> None:
    named = settings(1, provider={"kind": "simulated", "base_url": None, "api_key_env": None})
    (found,) = try_routes(named, {})
    assert found.verdict is Verdict.OK
