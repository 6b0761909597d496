"""Everything public can be copied and pickled, or says why it cannot."""

import copy
import dataclasses
import inspect
import multiprocessing
import pickle
import queue
from collections.abc import Callable
from enum import Enum
from typing import Any

import httpx
import pydantic
import pytest

import flatfee
from flatfee.tools import FunctionTool
from flatfee.types.events import ContentDoneEvent

WAYS: list[Callable[[Any], Any]] = [
    copy.copy,
    copy.deepcopy,
    *[lambda value, protocol=protocol: pickle.loads(pickle.dumps(value, protocol)) for protocol in range(6)],
]
NAMES = ["copy", "deepcopy", *[f"pickle{protocol}" for protocol in range(6)]]
HEADERS = {"x-flatfee-request-id": "req_1", "x-flatfee-lane": "premium"}
CLIENTS = (flatfee.Client, flatfee.AsyncClient)
SCOPES = (flatfee.WorkflowScope, flatfee.AsyncWorkflowScope)
READING = (
    *(flatfee.Stream, flatfee.AsyncStream, flatfee.StreamedResponse, flatfee.AsyncStreamedResponse),
    *(flatfee.ChatCompletionStream, flatfee.AsyncChatCompletionStream),
)
ASKED = (flatfee.Page, flatfee.AsyncPage, flatfee.AsyncPages, flatfee.RawResponse, flatfee.Run)

OVER = [(flatfee.Client, httpx.Client), (flatfee.AsyncClient, httpx.AsyncClient)]

every_way = pytest.mark.parametrize("again", WAYS, ids=NAMES)


def completion(**extra: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "hi"}
    return {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], **extra}


def listed(request: httpx.Request) -> httpx.Response:
    if request.url.path.endswith("/models"):
        more = "after" not in request.url.params
        return httpx.Response(200, headers=HEADERS, json={"data": [{"id": "auto"}], "has_more": more})
    return httpx.Response(200, headers=HEADERS, json=completion())


def settled(**options: Any) -> dict[str, Any]:
    return {"api_key": "ff_secret", "base_url": "http://gateway.test/v1", "max_retries": 7, **options}


def settled_in(city: str) -> str:
    return city


def test_every_public_class_was_thought_of() -> None:
    """A new public class must be copied by one of the tests of this module, or refuse."""
    tools = (flatfee.ToolResult, flatfee.ToolRun, flatfee.ToolStep, flatfee.ToolDefinition)
    plain = (flatfee.NotGiven, flatfee.RetryPolicy, flatfee.Timeout, flatfee.Try)
    values = (Enum, BaseException, pydantic.BaseModel, *plain, *tools)
    known = {*CLIENTS, *SCOPES, *READING, *ASKED, flatfee.Pacing}
    public = [getattr(flatfee, name) for name in flatfee.__all__]
    classes = [found for found in public if inspect.isclass(found)]
    assert [found for found in classes if found not in known and not issubclass(found, values)] == []


@every_way
def test_pacing_goes_on_as_it_was_set(again: Any) -> None:
    assert again(flatfee.Pacing(longest_wait=7.0)).longest_wait == 7.0


@every_way
def test_values_are_equal_to_their_copies(again: Any) -> None:
    read = {"request_id": "req_1", "lane": "premium", "attempts": [{"route": "a", "outcome": "ok"}], "new": 1}
    values = [
        flatfee.Timeout(read=3),
        flatfee.RetryPolicy(max_retries=3),
        flatfee.Try(number=1, status=503),
        flatfee.NOT_GIVEN,
        flatfee.omit,
        flatfee.Lane.PREMIUM,
        flatfee.Receipt.from_object(read),
        flatfee.ChatCompletion.model_validate(completion(flatfee=read)),
        flatfee.ChatCompletionChunk.model_validate({"choices": [], "flatfee": read}),
        flatfee.RoutePlan(lane="premium"),
        flatfee.Usage(plan="pro"),
        flatfee.Workflow(id="run-42"),
        STEP,
        RUN,
        flatfee.function_tool(settled_in),
        flatfee.pydantic_function_tool(flatfee.Workflow),
    ]
    for value in values:
        assert again(value) == value
    assert again(flatfee.NOT_GIVEN) is flatfee.NOT_GIVEN


ERRORS = [
    found
    for name in flatfee.__all__
    if inspect.isclass(found := getattr(flatfee, name)) and issubclass(found, flatfee.FlatfeeError)
]


RECEIPT = flatfee.Receipt.from_object({"request_id": "req_1", "attempts": [{"route": "a", "outcome": "timeout"}]})
STEP: flatfee.ToolStep[Any] = flatfee.ToolStep(
    completion=flatfee.ParsedChatCompletion.model_validate(completion()),
    results=(flatfee.ToolResult(id="call_1", name="f", arguments="{}", content="1"),),
)
RUN: flatfee.ToolRun[Any] = flatfee.ToolRun(messages=({"role": "user", "content": "hi"},), steps=(STEP,), workflow="w")
ARGUMENTS: dict[str, Any] = {
    "body": {"code": "c", "extra": [1]},
    "completion": flatfee.ChatCompletion.model_validate(completion()),
    "headers": {"Retry-After": "3", "x-should-retry": "false"},
    "message": "No.",
    "partial": "half",
    "receipt": RECEIPT,
    "run": RUN,
    "status_code": 418,
    "tool": "f",
}
"""A value for every argument that some exception takes."""


def made(kind: Any) -> Any:
    """Return an exception with a value for everything that it can know."""
    names = set(inspect.signature(kind.__init__).parameters) - {"self"}
    if "args" in names:
        return kind("No.")
    return kind(**{name: ARGUMENTS[name] for name in names})


@pytest.mark.pain(15)
@every_way
def test_an_exception_keeps_what_it_knows(again: Any) -> None:
    """Pain 15: exceptions of other SDKs don't unpickle."""
    for kind in ERRORS:
        keeps(kind, again)


def keeps(kind: Any, again: Any) -> None:
    error = made(kind)
    error.add_note("seen while testing")
    error.response = object()
    found = again(error)
    assert type(found) is kind
    assert (str(found), found.args) == (str(error), error.args)
    known = {name: value for name, value in vars(error).items() if name != "response"}
    assert vars(found) == known
    assert getattr(found, "response", None) is None


@every_way
@pytest.mark.parametrize("kind", CLIENTS)
def test_a_client_keeps_its_settings(kind: Any, again: Any) -> None:
    client = kind(**settled(timeout=3, default_headers={"X-A": "1"}, default_query={"b": 2}))
    found = again(client)
    assert (found.api_key, found.base_url, found.max_retries) == ("ff_secret", "http://gateway.test/v1/", 7)
    assert (found.timeout, found.default_query) == (client.timeout, {"b": 2})
    assert found.default_headers == client.default_headers
    assert found.chat.completions._core is found._core
    shared = found._core.transport is client._core.transport
    assert shared == (again is copy.copy), "only a plain copy shares the connections"
    assert not found.is_closed()


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_deep_copy_calls_what_it_was_given_to_call(kind: Any) -> None:
    """A method of an object works on that object, whose lock cannot be copied and whose queue nobody else reads."""
    heard: queue.Queue[Any] = queue.Queue()
    vault: queue.Queue[Any] = queue.Queue()
    client = kind(**settled(on_receipt=heard.put, api_key=vault.get, sleep=vault.put, clock=vault.qsize))
    found = copy.deepcopy(client)
    for one in (found, copy.deepcopy(client.workflow("run-42"))):
        assert one._core.config.api_key == vault.get
        assert (one._core.sleep, one._core.clock) == (vault.put, vault.qsize)
        assert one._core.watch is client._core.watch
    assert found._core.transport is not client._core.transport


@pytest.mark.parametrize("kind", [flatfee.ToolStep, flatfee.ToolRun, ContentDoneEvent, FunctionTool])
def test_a_generic_value_can_be_made_of_its_alias(kind: Any) -> None:
    fields = {field.name: "a" for field in dataclasses.fields(kind)}
    made_of_it = kind[int](**fields)
    assert type(made_of_it) is kind
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(made_of_it, next(iter(fields)), "b")


@pytest.mark.parametrize("kind", CLIENTS)
async def test_a_closed_client_stays_closed(kind: Any) -> None:
    client = kind(**settled())
    closing = client.close()
    if inspect.isawaitable(closing):
        await closing
    assert [again(client).is_closed() for again in (copy.copy, copy.deepcopy, WAYS[-1])] == [True] * 3


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, WAYS[-1]])
@pytest.mark.parametrize("kind", CLIENTS)
def test_a_workflow_scope_stays_the_same_workflow(kind: Any, again: Any) -> None:
    found = again(kind(**settled()).workflow("run-42"))
    assert type(found) in SCOPES
    assert found.id == "run-42"
    assert found.chat.completions._core.config.headers["x-flatfee-workflow"] == "run-42"


@pytest.mark.parametrize("again", WAYS[2:], ids=NAMES[2:])
@pytest.mark.parametrize(("kind", "http"), OVER)
def test_a_client_with_an_http_client_of_its_callers_cannot_be_pickled(kind: Any, http: Any, again: Any) -> None:
    client = kind(**settled(http_client=http(transport=httpx.MockTransport(listed))))
    with pytest.raises(TypeError, match="make the client where it is used"):
        again(client)


@pytest.mark.parametrize("again", WAYS[:2], ids=NAMES[:2])
@pytest.mark.parametrize(("kind", "http"), OVER)
def test_a_copy_shares_the_http_client_that_was_passed_in(kind: Any, http: Any, again: Any) -> None:
    http_client = http(transport=httpx.MockTransport(listed))
    found = again(kind(**settled(http_client=http_client)))
    assert found._core.transport._given is http_client


def with_pages() -> flatfee.Client:
    return flatfee.Client(**settled(http_client=httpx.Client(transport=httpx.MockTransport(listed))))


@pytest.mark.parametrize("again", WAYS[:2], ids=NAMES[:2])
def test_a_copied_page_turns_to_the_next(again: Any) -> None:
    page = again(with_pages().models.list())
    assert [model.id for model in page] == ["auto", "auto"]


def rebound(page: Any, core: Any) -> Any:
    """Return the page over another core: one whose connections are its own can go elsewhere."""
    page._core = core
    return page


@every_way
def test_a_page_keeps_its_items_and_where_it_goes_on(again: Any) -> None:
    with with_pages() as client:
        page = rebound(client.models.list(), flatfee.Client(**settled())._core)
    found = again(page)
    assert (found.data, found.has_more, found._request_id) == (page.data, True, "req_1")
    assert found._next.call.query == {"after": "auto"}


@every_way
async def test_pages_for_coroutines_go_along_too(again: Any) -> None:
    http_client = httpx.AsyncClient(transport=httpx.MockTransport(listed))
    own = flatfee.AsyncClient(**settled())
    pages = flatfee.AsyncClient(**settled(http_client=http_client)).models.list()
    page = rebound(await pages, own._core)
    assert again(page).data == page.data
    assert again(own.models.list())._asked.call.path == "/models"


@every_way
def test_a_raw_response_keeps_answer_headers_and_content(again: Any) -> None:
    with with_pages() as client:
        response = client.chat.completions.with_raw_response.create(model="auto", messages=[])
    found = again(response)
    assert (found.parse(), found.content, found.status_code) == (response.parse(), response.content, 200)
    assert (found.headers["x-flatfee-lane"], found.receipt) == ("premium", response.receipt)
    assert (found.http_response, found.is_closed) == (None, True)
    with pytest.raises(flatfee.FlatfeeError, match="left behind"):
        _ = found.elapsed


@every_way
def test_a_run_keeps_its_figures_and_goes_its_own_way(again: Any) -> None:
    read = {"request_id": "req_1", "lane": "premium", "state": "settled", "fair_use": {"charged": 3}}
    with flatfee.receipts() as outer, flatfee.receipts(clock=lambda: 7.0) as run:
        run.note(flatfee.Receipt.model_validate(read))
        found = again(run)
        assert found.to_dict() == run.to_dict()
        found.note(flatfee.Receipt.model_validate(read | {"request_id": "req_2"}))
    assert (found.requests, run.requests, outer.requests) == (2, 1, 1)


@every_way
async def test_what_reads_from_a_connection_says_that_it_stays(driver: Any, sse: Any, again: Any) -> None:
    d = driver(lambda _: sse(b"data: {}\n\n"))
    stream = await d.stream()
    response = await d.wait(d.client.chat.completions.with_raw_response.create(model="a", messages=[], stream=True))
    for reading in (stream,) if again is copy.copy else (stream, response):
        with pytest.raises(TypeError, match="A stream cannot be copied or pickled"):
            again(reading)
    completions = d.client.chat.completions
    for manager, says in (
        (completions.with_streaming_response.create(model="a", messages=[], stream=True), "still being read"),
        (completions.stream(model="a", messages=[]), "A stream cannot be copied"),
    ):
        await refuses(d, manager, again, says)


async def refuses(d: Any, manager: Any, again: Any, says: str) -> None:
    unread = manager.__enter__() if d.kind == "sync" else await manager.__aenter__()
    with pytest.raises(TypeError, match=says):
        again(unread)
    await d.wait(unread.close())


def there_and_back(connection: Any) -> None:
    """Run in another process: ask for what came, tell what it is, and fail with what comes last."""
    for _ in range(connection.recv()):
        value = connection.recv()
        connection.send((repr(value), value))
    connection.close()


@pytest.mark.processes
@pytest.mark.pain(15)
def test_exceptions_and_answers_come_back_from_another_process() -> None:
    """Pain 15: exceptions of other SDKs don't unpickle, so a pool hangs and the status is lost."""
    client = flatfee.Client(**settled())
    answers = [flatfee.ChatCompletion.model_validate(completion(flatfee={"request_id": "r", "lane": "premium"}))]
    with with_pages() as asking:
        answers.append(asking.chat.completions.create(model="auto", messages=[]))
        raw = asking.chat.completions.with_raw_response.create(model="auto", messages=[])
        page = rebound(asking.models.list(), client._core)
    sent = [client, client.workflow("run-42"), page, raw, *answers, *[made(kind) for kind in ERRORS]]
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=there_and_back, args=(there,), daemon=True)
    process.start()
    there.close()
    here.send(len(sent))
    for value in sent:
        here.send(value)
        assert here.poll(60), "the other process is silent"
        shown, back = here.recv()
        assert (shown, type(back)) == (repr(value), type(value))
        if isinstance(value, flatfee.APIError):
            assert (back.receipt, back.attempts, vars(back)) == (value.receipt, value.attempts, vars(value))
        if isinstance(value, flatfee.ChatCompletion):
            assert (back, back.receipt, back._request_id) == (value, value.receipt, value._request_id)
    process.join(60)
    assert process.exitcode == 0
