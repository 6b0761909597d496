"""What a tool call is about, as far as its name and arguments tell: a file that is read or written, or neither.

Nothing is known of a caller's tools but what they are called. A wrong guess costs an old result, never a new one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

import msgspec
from msgspec import Raw

from flatfee.server.compaction.reading import ToolCall, decoded


class Deed(Enum):
    """What a call does to the file it names."""

    READS = "reads"
    WRITES = "writes"


_DEEDS: Final = {
    **dict.fromkeys(("read", "view", "open", "cat", "show", "get", "fetch", "load"), Deed.READS),
    **dict.fromkeys(
        (
            *("write", "edit", "create", "replace", "patch", "update", "insert", "append", "delete", "remove"),
            *("move", "rename", "overwrite", "save", "undo"),
        ),
        Deed.WRITES,
    ),
}
"""Words of a tool's name, of which one that writes counts more than one that reads."""

_PATHS: Final = frozenset(
    {
        *("path", "filepath", "file", "filename", "targetfile", "absolutepath", "relativepath"),
        *("relativeworkspacepath", "notebookpath", "uri"),
    }
)
"""Arguments that name a file, in small letters and without ``_`` and ``-``."""

_COMMANDS: Final = ("command", "action", "operation", "mode")
"""Arguments by which a tool that does several things is told which: its own name tells less then."""

_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_LONGEST_COMMAND: Final = 32
_LONGEST_NAME: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a call is about. ``whole``: nothing but the file is named, so that all of it is read.

    ``identity`` is the same for two calls that ask for the same.
    """

    identity: bytes
    name: str
    path_key: str | None = None
    path: str | None = None
    deed: Deed | None = None
    whole: bool = False


def subject_of(call: ToolCall) -> Subject:
    """Return what a call is about."""
    arguments = decoded(call.arguments, dict[str, Raw])
    if arguments is None:
        return Subject(identity=msgspec.json.encode([call.name, call.arguments]), name=call.name)
    identity = msgspec.json.encode([call.name, sorted(arguments.items())])
    path_key = next((key for key in arguments if _plain(key) in _PATHS), None)
    path = decoded(arguments[path_key], str) if path_key is not None else None
    if not path:
        return Subject(identity=identity, name=call.name)
    command_key = next((key for key in _COMMANDS if key in arguments), None)
    command = decoded(arguments[command_key], str) if command_key is not None else None
    told = command if command is not None and len(command) <= _LONGEST_COMMAND else None
    return Subject(
        identity=identity,
        name=call.name,
        path_key=path_key,
        path=path.removeprefix("./"),
        deed=(_deed(told) if told is not None else None) or _deed(call.name),
        whole=len(arguments) == (1 if told is None else 2),
    )


def _plain(key: str) -> str:
    return key.lower().replace("_", "").replace("-", "")


def _deed(name: str) -> Deed | None:
    words = (word.lower() for word in _WORD.findall(name[:_LONGEST_NAME]))
    found = {_DEEDS[word] for word in words if word in _DEEDS}
    return Deed.WRITES if Deed.WRITES in found else Deed.READS if found else None
