"""The client: a sans-IO core (``exchange``, ``sse``, ``stream``, ``retry``, ``config``) and two thin shells."""

from flatfee.client.aio import AsyncClient, AsyncWorkflowScope
from flatfee.client.event_stream import AsyncChatCompletionStream, ChatCompletionStream
from flatfee.client.raw import AsyncStreamedResponse, RawResponse, StreamedResponse
from flatfee.client.resources.pages import AsyncPage, AsyncPages, Page
from flatfee.client.retry import RetryPolicy
from flatfee.client.stream import AsyncStream, Stream
from flatfee.client.sync import Client, WorkflowScope
from flatfee.client.turns import Pacing

__all__ = [
    "AsyncChatCompletionStream",
    "AsyncClient",
    "AsyncPage",
    "AsyncPages",
    "AsyncStream",
    "AsyncStreamedResponse",
    "AsyncWorkflowScope",
    "ChatCompletionStream",
    "Client",
    "Pacing",
    "Page",
    "RawResponse",
    "RetryPolicy",
    "Stream",
    "StreamedResponse",
    "WorkflowScope",
]
