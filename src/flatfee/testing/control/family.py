"""The gateways of one process: the first, and those that parallel tests asked for, each with a control API."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, Final, Self

from pydantic import RootModel

from flatfee.testing.control.endpoint import Endpoint, Json, Nothing, Visit
from flatfee.testing.control.endpoints import describe, endpoints
from flatfee.testing.control.handler import ROOT, Control
from flatfee.testing.gateway import ScriptedGateway, make_gateway

MOST: Final = 64
"""Gateways at the same time. Each is a thread, an event loop and a port."""


_OF_THE_FIRST: Final = frozenset({"config", "record", "replay", "redact", "host", "port", "socket"})
"""Options that only who starts the process may give: they name files, providers and addresses."""


class _Started(RootModel[dict[str, Any]]):
    """The options of a new gateway: those of ``Options``, but for those of the first."""


class Family:
    """Gateways that share nothing but the process. ``end`` is called by ``POST /_test/stop``.

    ``shared`` are the options that all of them have, unless they are told otherwise.
    """

    def __init__(self, end: Callable[[], None], **shared: Any) -> None:
        self.end = end
        self._shared = shared
        self._lock = threading.Lock()
        self._members: dict[int, ExitStack] = {}

    def start(self, options: Mapping[str, Any]) -> ScriptedGateway:
        """Start a gateway; its port is its name.

        Raises:
            ValueError: an option is wrong, or there are too many gateways.
        """
        with self._lock, ExitStack() as undo:
            if len(self._members) >= MOST:
                message = f"There are {MOST} gateways already; end one with DELETE /{ROOT}/gateways/PORT."
                raise ValueError(message)
            gateway = make_gateway(**{**self._shared, **options})
            undo.callback(gateway.close)
            control = Control(gateway, [*endpoints(), *self.endpoints()])
            undo.callback(control.close)
            gateway.serve_beside(ROOT, control)
            self._members[gateway.port] = undo.pop_all()
        return gateway

    def endpoints(self) -> list[Endpoint[Any]]:
        """Return the endpoints that start and end gateways."""

        def start(visit: Visit[_Started]) -> Json:
            given = visit.body.root
            for name in sorted(_OF_THE_FIRST.intersection(given)):
                message = f"{name!r} is not for a request to choose; give it to flatfee serve --test."
                raise ValueError(message)
            try:
                return describe(self.start(given))
            except TypeError as error:
                raise ValueError(f"An option has a value of another type than it takes: {error}.") from error

        def stop(visit: Visit[Nothing]) -> Json:
            if visit.names["port"] == str(visit.gateway.port):
                message = f"A gateway cannot end itself; POST /{ROOT}/stop ends them all."
                raise ValueError(message)
            port = visit.names["port"]
            self.stop(int(port) if port.isdecimal() else -1)
            return {"object": "gateway", "ended": True}

        def end(visit: Visit[Nothing]) -> Json:
            del visit
            return {"object": "gateway", "ended": True}

        return [
            Endpoint("POST", "/gateways", "Start another gateway that shares nothing with this one.", start, _Started),
            Endpoint("DELETE", "/gateways/{port}", "End a gateway that was started so.", stop, Nothing),
            Endpoint("POST", "/stop", "End the process.", end, Nothing, then=self.end),
        ]

    def stop(self, port: int) -> None:
        """End a gateway.

        Raises:
            LookupError: there is none at that port.
        """
        with self._lock:
            member = self._members.pop(port, None)
        if member is None:
            message = f"There is no gateway at port {port}; there are: {sorted(self._members)}."
            raise LookupError(message)
        member.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for port in list(self._members):
            self.stop(port)
