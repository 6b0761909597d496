"""Endpoints for failures of the gateway's own, each from when it is asked for until it is taken back."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from flatfee.testing.control.endpoint import Endpoint, Form, Json, Nothing, Visit
from flatfee.testing.gateway import ScriptedGateway


class _Wanted(Form):
    """Which troubles there are to be; what is not named stays as it is."""

    ledger_down: bool | None = None
    overload: bool | None = None
    drain: bool | None = None


class Troubles:
    """The troubles of one gateway. In Python each lasts as long as a block; here nobody has one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks: dict[str, ExitStack] = {}

    def end(self) -> None:
        """Take all of them back."""
        with self._lock:
            while self._blocks:
                self._blocks.popitem()[1].close()

    def endpoints(self) -> tuple[Endpoint[Any], ...]:
        """Return the endpoints of the gateway's troubles."""

        def show(visit: Visit[Any]) -> Json:
            del visit
            return {"object": "troubles", **{name: name in self._blocks for name in _Wanted.model_fields}}

        def change(visit: Visit[_Wanted]) -> Json:
            for name, wanted in visit.body.model_dump(exclude_none=True).items():
                self._set(visit.gateway, name, there=wanted)
            return show(visit)

        return (
            Endpoint("GET", "/troubles", "Which failures of its own the gateway has.", show, Nothing),
            Endpoint("PATCH", "/troubles", "Let it have some, or take them back.", change, _Wanted),
        )

    def _set(self, gateway: ScriptedGateway, name: str, *, there: bool) -> None:
        with self._lock:
            if not there and name in self._blocks:
                self._blocks.pop(name).close()
            elif there and name not in self._blocks:
                trouble: AbstractContextManager[None] = getattr(gateway, name)()
                block = ExitStack()
                block.enter_context(trouble)
                self._blocks[name] = block
