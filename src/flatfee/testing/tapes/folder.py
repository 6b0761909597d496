"""Tapes on the disk: named, written whole or not at all, read in order. What is in them is ``tape``'s."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flatfee.testing.tapes.tape import Tape, TapeError, parse

MAX_FILE: Final = 128 * 1024 * 1024
MAX_TAPES: Final = 10_000

_NUMBERED: Final = re.compile(r"(\d{4,})-.*\.json")
_WORDS: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Filed:
    """A tape and its file."""

    path: Path
    tape: Tape

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name


def prepare(folder: Path) -> Path:
    """Make the folder, and see that tapes can be written there.

    Raises:
        TapeError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        message = f"Tapes cannot be written to {folder}: {error.strerror}. Give a folder that this user may write."
        raise TapeError(message) from error


def read_all(folder: Path) -> list[Filed]:
    """Read every tape of a folder, in the order of their names.

    Raises:
        TapeError: there is no such folder, no tape in it, or one that cannot be used; all of those are named.
    """
    if not folder.is_dir():
        message = f"There is no folder {folder}. Record tapes into it first: running_gateway(record={str(folder)!r})."
        raise TapeError(message)
    paths = sorted(folder.glob("*.json"), key=_order)
    if not paths or len(paths) > MAX_TAPES:
        message = f"{folder} holds {len(paths)} tapes (*.json); give a folder with 1 to {MAX_TAPES} of them."
        raise TapeError(message)
    found: list[Filed] = []
    problems: list[str] = []
    for path in paths:
        try:
            found.append(Filed(path=path, tape=read_one(path)))
        except TapeError as error:
            problems.append(str(error))
    if problems:
        raise TapeError("\n".join(problems))
    return found


def read_one(path: Path) -> Tape:
    """Read one file.

    Raises:
        TapeError: it cannot be read, or used.
    """
    try:
        if path.stat().st_size > MAX_FILE:
            message = f"{path} has more than {MAX_FILE} bytes; record a smaller answer."
            raise TapeError(message)
        return parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path} cannot be read: {error}. Restore it, or delete it and record it again."
        raise TapeError(message) from error


def write_new(folder: Path, tape: Tape, *, after: int = 0) -> Path:
    """Write a tape under the next free number behind ``after``; a file that is there is never written over.

    Raises:
        TapeError: it cannot be written, or there are ``MAX_TAPES`` of them.
    """
    if after >= MAX_TAPES:
        message = f"{folder} has {MAX_TAPES} tapes, which are enough; record into another folder."
        raise TapeError(message)
    name = _name(tape)
    try:
        written = _written(folder, tape)
        try:
            return _linked(folder, name, written, after + 1)
        finally:
            written.unlink()
    except OSError as error:
        message = f"A tape cannot be written to {folder}: {error.strerror}."
        raise TapeError(message) from error


def _linked(folder: Path, name: str, written: Path, number: int) -> Path:
    """Give a file the first free number. Others may record into the same folder."""
    while True:
        path = folder / f"{number:04}-{name}.json"
        try:
            if not any(folder.glob(f"{number:04}-*.json")):
                path.hardlink_to(written)  # unlike a rename, it fails where somebody else was first
                return path
        except FileExistsError:
            pass
        number += 1


def rewrite(path: Path, tape: Tape) -> None:
    """Write a tape in the place of an earlier one.

    Raises:
        TapeError: it cannot be written; the earlier one is still there.
    """
    try:
        _written(path.parent, tape).replace(path)
    except OSError as error:
        message = f"{path} cannot be written: {error.strerror}."
        raise TapeError(message) from error


def _written(folder: Path, tape: Tape) -> Path:
    """Return a file of no tape's name with all of the tape in it."""
    handle, name = tempfile.mkstemp(prefix=".tape-", dir=folder)  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(tape.write())
    except BaseException:
        Path(name).unlink()
        raise
    return Path(name)


def number_of(name: str) -> int:
    """Return the number that a file's name begins with; 0: it has none."""
    found = _NUMBERED.fullmatch(name)
    return int(found[1]) if found else 0


def _order(path: Path) -> tuple[int, str]:
    return number_of(path.name), path.name


def _name(tape: Tape) -> str:
    """Return what the file is called behind its number: the route, and the first words of the last message."""
    messages = tape.request.get("messages")
    words = _words(messages[-1]) if isinstance(messages, list) and messages else ()
    return "-".join([tape.route.lower(), *words])[:80]


def _words(message: Any) -> Iterable[str]:
    if not isinstance(message, dict):
        return ()
    content = message.get("content")
    if isinstance(content, list):
        content = next((part.get("text") for part in content if isinstance(part, dict) and "text" in part), None)
    said = content if isinstance(content, str) else str(message.get("role", ""))
    return re.findall(r"[a-z0-9]+", said[:200].lower())[:_WORDS]
