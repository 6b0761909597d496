"""What every form of the double has in common: a frozen value, from Python or JSON, that knows all of its members."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class Closed(BaseModel):
    """A frozen value. An unknown member is an error that names the nearest one."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __repr_args__(self) -> Iterator[tuple[str, Any]]:
        """Show what was given."""
        fields = type(self).model_fields
        return ((fields[name].alias or name, getattr(self, name)) for name in fields if name in self.model_fields_set)

    @model_validator(mode="before")
    @classmethod
    def _knows(cls, given: Any) -> Any:
        if isinstance(given, Mapping):
            known = [field.alias or name for name, field in cls.model_fields.items()]
            for name in given:
                if name not in known:
                    message = f"{cls.__name__} has no {name!r}; {meant(str(name), known)}"
                    raise ValueError(message)
        return given


def meant(name: str, known: Sequence[str]) -> str:
    """Say which of the known names was meant, or which there are."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known)}."
