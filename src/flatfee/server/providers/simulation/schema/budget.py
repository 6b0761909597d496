"""How much work one value may take. A step is about a microsecond or two; nothing here looks at a clock."""

from __future__ import annotations

from typing import Final, TypeAlias

MOST_STEPS: Final = 50_000
MOST_LEVELS: Final = 32
"""How many objects and arrays a value has within each other, at most."""


Place: TypeAlias = "tuple[Place, str] | None"
"""Where something stands: the place around it and the step from there, so that neighbours share the way to them."""


def pointer(place: Place) -> str:
    """Return a place as a JSON pointer."""
    steps = list[str]()
    while place is not None:
        place, step = place
        steps.append(step)
    return "".join(reversed(steps))


class UnanswerableError(ValueError):
    """No value can be given for a schema.

    ``where`` is the place in the schema (a JSON pointer), ``why`` says what is the matter and what to do.
    """

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"{where or 'the schema'}: {why}")
        self.where = where
        self.why = why


class SpentError(Exception):
    """The steps are used up."""


class Budget:
    """Steps that are left."""

    __slots__ = ("left",)

    def __init__(self, steps: int = MOST_STEPS) -> None:
        self.left = steps

    def spend(self, steps: int = 1) -> None:
        """Take steps.

        Raises:
            SpentError: there are not as many left.
        """
        self.left -= steps
        if self.left < 0:
            raise SpentError
