"""The client: a sans-IO core (``exchange``, ``sse``, ``stream``, ``retry``, ``config``) and two thin shells."""

from flatfee.client.aio import AsyncClient, AsyncWorkflowScope
from flatfee.client.resources.pages import AsyncPage, AsyncPages, Page
from flatfee.client.stream import AsyncStream, Stream
from flatfee.client.sync import Client, WorkflowScope

__all__ = [
    "AsyncClient",
    "AsyncPage",
    "AsyncPages",
    "AsyncStream",
    "AsyncWorkflowScope",
    "Client",
    "Page",
    "Stream",
    "WorkflowScope",
]
