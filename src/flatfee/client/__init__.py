"""The client: a sans-IO core, and two thin shells that send, sleep and close (``sync``, ``aio``).

A call is described in ``exchange``, goes its way as an ``errand``, and is repeated by ``retry``, in the line of
``pacing`` where there is one. Streams come through ``sse`` and ``stream``, and are added up in ``accumulate``. ``http``
alone knows the HTTP library. ``resources`` is what users call, ``watching`` who hears of it.
"""

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
