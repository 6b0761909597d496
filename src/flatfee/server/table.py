"""What every table of the configuration is made of. The tables themselves: ``settings``, ``policy.tables``."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class Table(BaseModel):
    """Base of every table of the file: frozen, and closed to keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    def __iter__(self) -> Generator[tuple[str, Any], None, None]:
        """Yield every field with its value, and nothing that was worked out from them."""
        for name in type(self).model_fields:
            yield name, getattr(self, name)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy. What was worked out from the fields once (``cached_property``) is not copied: they may differ.

        Raises:
            TypeError: ``update`` names what is no field, which pydantic would keep and nobody would read.
        """
        if unknown := (update or {}).keys() - type(self).model_fields.keys():
            raise TypeError(f"{type(self).__name__} has no field {min(unknown)!r}")
        copied = super().model_copy(update=update, deep=deep)
        for name in vars(copied).keys() - type(self).model_fields.keys():
            object.__delattr__(copied, name)
        return copied
