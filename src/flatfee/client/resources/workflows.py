"""``client.workflows``: the runs that hold a slot now."""

from __future__ import annotations

import logging
from dataclasses import replace
from operator import attrgetter
from typing import Final, Unpack

from flatfee.client.exchange import Call, read_nothing, segment
from flatfee.client.resources.core import AsyncCore, Core
from flatfee.client.resources.options import plain_parts, workflow_id
from flatfee.client.resources.pages import AsyncPages, Page, PageCall, page_reader
from flatfee.errors import NotFoundError
from flatfee.types.gateway import Workflow
from flatfee.types.params import CallOptions

log: Final = logging.getLogger("flatfee.client")

RELEASE_TIMEOUT: Final = 5.0
"""Seconds that leaving a workflow may take: an unreleased slot frees itself when it has been idle."""

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
    return Call(method="DELETE", path=path, read=read_nothing, releases=workflow, **plain_parts(options))


def leave(core: Core, workflow: str) -> None:
    """Free a workflow's slot at its end.

    One that holds none, a gateway out of reach, or whatever a key's callable raises, is no failure: what the
    workflow came to matters more.
    """
    try:
        core.send(_leaving(workflow))
    except NotFoundError:
        pass
    except Exception as error:  # noqa: BLE001 - as said above
        _log_held(workflow, error)


async def aleave(core: AsyncCore, workflow: str) -> None:
    """Do what ``leave`` does, for coroutines. Whoever is cancelled still frees what it held, and then goes."""
    from anyio import move_on_after  # a program without coroutines does without

    with move_on_after(RELEASE_TIMEOUT, shield=True):
        try:
            await core.send(_leaving(workflow))
        except NotFoundError:
            pass
        except Exception as error:  # noqa: BLE001 - as ``leave`` has it
            _log_held(workflow, error)


def _leaving(workflow: str) -> Call[None]:
    return replace(releasing(workflow, {"timeout": RELEASE_TIMEOUT}), deadline=RELEASE_TIMEOUT, once=True)


def _log_held(workflow: str, error: Exception) -> None:
    log.warning("workflow.release_failed workflow=%s error=%s", workflow, type(error).__name__)


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
