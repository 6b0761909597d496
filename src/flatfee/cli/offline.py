"""A dry run from a configuration file alone, as ``flatfee route --config`` shows it. No gateway, no key."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flatfee.client.exchange import encode
from flatfee.client.resources.options import gateway_headers
from flatfee.errors import ConfigurationError, from_wire
from flatfee.receipt import Receipt
from flatfee.server.ask import read_ask
from flatfee.server.call import too_large
from flatfee.server.configuration import SettingsError, read_settings, validated
from flatfee.server.faults import Fault, answer
from flatfee.server.inspecting.inspection import as_json
from flatfee.server.inspecting.supposing import Scene, Supposition, check_tool_loop, name_problems, scene_of, suppose
from flatfee.server.settings import Settings
from flatfee.types import RoutePlan
from flatfee.wire import ReceiptState

_LINE = "the command line"


def plan_offline(
    config: Path, body: Mapping[str, Any], hints: Mapping[str, Any], supposed: Mapping[str, Any]
) -> RoutePlan:
    """Return what the gateway of a file would answer, for the account that is ``supposed``.

    Raises:
        ConfigurationError: the file or what is supposed is wrong.
        APIStatusError: the request would be refused.
    """
    headers = {name.encode(): value.encode() for name, value in gateway_headers(hints).items()}
    try:
        settings = read_settings(config, os.environ)
        scene = _scene(supposed, settings)
    except SettingsError as error:
        raise ConfigurationError(str(error)) from error
    try:
        found = suppose(read_ask(headers, _sendable(body, settings)), scene, settings)
    except Fault as fault:
        told = answer(fault, fault.receipt or Receipt(state=ReceiptState.REFUSED))
        told.envelope["flatfee"].pop("request_id", None)  # there was no request
        raise from_wire(told.status, told.headers, told.envelope) from fault
    return RoutePlan.model_validate(as_json(found))


def _sendable(body: Mapping[str, Any], settings: Settings) -> bytes:
    sent, most = encode(body), settings.server.max_body_bytes
    if len(sent) > most:
        raise too_large(most)
    return sent


def check_loop(messages: object, workflow: str | None) -> None:
    """Check that a whole body can be part of a tool loop.

    Raises:
        ConfigurationError: it cannot.
    """
    try:
        check_tool_loop(messages, workflow)
    except ValueError as error:
        raise ConfigurationError(f"{_LINE}: {error}.") from error


def _scene(supposed: Mapping[str, Any], settings: Settings) -> Scene:
    loop = supposed["tool_loop_route"]
    given = {name: value for name, value in supposed.items() if name != "tool_loop_route"}
    supposition = validated(Supposition, given, _LINE)
    if problems := list(name_problems(supposition, loop, settings)):
        raise SettingsError(_LINE, problems)
    return scene_of(supposition, loop, settings, datetime.now(UTC))
