"""``client.workflows``: the runs that hold a slot now."""

from __future__ import annotations

from operator import attrgetter
from typing import Unpack

from flatfee.client.exchange import Call, read_nothing, segment
from flatfee.client.resources.core import AsyncCore, Core
from flatfee.client.resources.options import plain_parts, workflow_id
from flatfee.client.resources.pages import AsyncPages, Page, PageCall, page_reader
from flatfee.types.gateway import Workflow
from flatfee.types.params import CallOptions

_read_page = page_reader(Workflow)


def listing(options: CallOptions) -> PageCall[Workflow]:
    """Return the call of the list of running workflows."""
    return PageCall(
        Call(method="GET", path="/workflows", read=_read_page, **plain_parts(options)),
        cursor=attrgetter("id"),
    )


def releasing(workflow: str, options: CallOptions) -> Call[None]:
    """Return the call that frees a workflow's slot."""
    path = f"/workflows/{segment('workflow', workflow_id(workflow))}"
    return Call(method="DELETE", path=path, read=read_nothing, **plain_parts(options))


class Workflows:
    """Live leases of concurrent workflows."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def list(self, **options: Unpack[CallOptions]) -> Page[Workflow]:
        """List the workflows that hold a slot now."""
        return Page.ask(self._core, listing(options))

    def release(self, workflow: str, **options: Unpack[CallOptions]) -> None:
        """Free a workflow's slot at once. Raises ``NotFoundError`` if it holds none."""
        self._core.send(releasing(workflow, options))


class AsyncWorkflows:
    """Live leases of concurrent workflows."""

    def __init__(self, core: AsyncCore) -> None:
        self._core = core

    def list(self, **options: Unpack[CallOptions]) -> AsyncPages[Workflow]:
        """List the workflows that hold a slot now."""
        return AsyncPages(self._core, listing(options))

    async def release(self, workflow: str, **options: Unpack[CallOptions]) -> None:
        """Free a workflow's slot at once. Raises ``NotFoundError`` if it holds none."""
        await self._core.send(releasing(workflow, options))
