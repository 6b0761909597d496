"""One endpoint of the control API: what it takes, what it does. The table of them is ``endpoints``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from flatfee.testing.gateway import ScriptedGateway

_Body = TypeVar("_Body")

Json = Mapping[str, Any]


def listed(data: Iterable[Json], **more: Any) -> Json:
    """Return a list as it is answered."""
    return {"object": "list", "data": list(data), **more}


class Form(BaseModel):
    """Base of every body and query: closed, so that a misspelt member is told."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Nothing(Form):
    """A body that says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit(Generic[_Body]):
    """One request, read and checked. ``names`` are the parameters of its path.

    ``over`` is set once nobody waits for the answer any more: the caller left, or the gateway is being ended.
    """

    gateway: ScriptedGateway
    names: Mapping[str, str]
    body: _Body
    over: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class Endpoint(Generic[_Body]):
    """A row of the table. ``path`` is below ``/_test``, with its parameters in braces.

    ``handler`` is called in a thread of its own, and may wait for the gateway. What it raises as ``ValueError``
    or ``LookupError`` is told to the caller as the mistake that it is, ``TimeoutError`` as a wait that was in vain.
    ``waits``: it may take its time until somebody else does something, and then keeps nobody else from being
    served. ``then`` is called once the answer is out.
    """

    method: Literal["GET", "POST", "PATCH", "DELETE"]
    path: str
    summary: str
    handler: Callable[[Visit[_Body]], Json]
    takes: type[_Body]
    waits: bool = False
    then: Callable[[], None] | None = None
