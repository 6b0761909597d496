"""What the package promises to its users by name, and what it must not drag in."""

import subprocess
import sys
import tomllib
from pathlib import Path

import flatfee
import flatfee.testing
import flatfee.types

PUBLIC = """
__version__ APIConnectionError APIError APIResponseValidationError APIStatusError APITimeoutError
AsyncChatCompletionStream AsyncClient AsyncOpenAI AsyncPage AsyncPages AsyncStream AsyncStreamedResponse
AsyncWorkflowScope Attempt AttemptOutcome AuthenticationError BadRequestError Billing BillingError ChatCompletion
ChatCompletionChunk ChatCompletionMessage ChatCompletionStream classify Client ClientClosedError Compaction
ConcurrencyLimitError ConfigurationError ConflictError ContentFilterFinishReasonError DeadlineExceededError
DefaultAsyncHttpxClient DefaultHttpxClient ErrorCode FairUse FallbackExhausted FlatfeeError function_tool FunctionTool
InternalServerError Lane LengthFinishReasonError NOT_GIVEN NotFoundError NotGiven omit Omit OnExhausted OpenAI
OpenAIError Pacing Page ParsedChatCompletion PermissionDeniedError pydantic_function_tool RateLimitError RawResponse
Reason Receipt receipts ReceiptState RequestFacts RequestTooLargeError RetryPolicy RoutePlan Run
ServiceUnavailableError Stream StreamedResponse StreamTruncated StructuredOutputError Task Tier Timeout TokenUsage
ToolDefinition ToolError ToolLoopError ToolLoopExceeded ToolResult ToolRun ToolStep Try UnprocessableEntityError
UnsupportedMediaTypeError Usage Workflow WorkflowScope WorkflowState
"""

TESTING = """
anything Asked call contains Edge Ending Entry Fault Gate GatewayFactory Journal Limits LogicalCall matches OBEY
Options Raw Reply RouteTry Rule running_gateway ScriptedGateway ScriptFailed TapeError Tapes Tokens ToolCall
UnmatchedRequest Verdict Violation VirtualClock
"""

HEAVY = ("aiohttp", "flatfee.cli", "flatfee.server", "httpx", "msgspec", "rich", "starlette", "typer", "uvicorn")


def test_the_public_names_are_pinned() -> None:
    assert sorted(flatfee.__all__) == sorted(PUBLIC.split())
    assert sorted(flatfee.testing.__all__) == sorted(TESTING.split())


def test_every_public_name_exists() -> None:
    for module in (flatfee, flatfee.types, flatfee.testing):
        assert len(set(module.__all__)) == len(module.__all__)
        assert [name for name in module.__all__ if not hasattr(module, name)] == []


def test_importing_the_package_is_light() -> None:
    code = f"import flatfee, sys; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    source = str(Path(flatfee.__file__).parents[1])
    told = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": source}, capture_output=True, check=True)
    assert told.stdout.decode().split() == []


def test_the_version_is_the_projects() -> None:
    project = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text())
    assert flatfee.__version__ == project["project"]["version"]
