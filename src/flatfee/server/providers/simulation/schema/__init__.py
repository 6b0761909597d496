"""A small valid value for any JSON schema. Pure; the same value for the same schema.

``search`` guesses, ``check`` tells whether a guess fits, ``cases`` and ``negation`` decide what "or" and "not"
leave open, ``texts`` (with ``pattern`` and ``language``) and ``numbers`` find the leaves, ``budget`` ends it all.
No part of it knows of chat completions.

Most of it is imported with the first schema: a gateway that never meets one starts without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flatfee.server.providers.simulation.schema.budget import Budget, SpentError, UnanswerableError

if TYPE_CHECKING:
    from flatfee.server.providers.simulation.schema.search import Search

__all__ = ["Budget", "JsonSchema", "SpentError", "UnanswerableError", "instance", "text_for"]

_REPEATS: Final = (1, 2, 4, 8)
"""How often a schema may be within itself: values that need no recursion are looked for first."""
_OBJECT: Final[dict[str, Any]] = {"type": "object"}
_SPENT: Final = "no value was found in reasonable time; use fewer nested options, and shorter texts and lists"


class JsonSchema:
    """A JSON schema of any draft from 4 to 2020-12. All work is taken from ``budget``.

    Raises:
        UnanswerableError: it is malformed; the error names the place and the cure.
    """

    def __init__(self, schema: Any, budget: Budget) -> None:
        from flatfee.server.providers.simulation.schema.document import Document

        self._schema = schema
        self._budget = budget
        try:
            self._document = Document(schema, budget)
        except SpentError:
            raise UnanswerableError("", _SPENT) from None

    def instance(self, *, as_object: bool = False) -> Any:
        """Return a small value that fits; an object if it has to be one whatever the schema says.

        Required members only, the first of an ``enum`` or of options, a ``default`` if it fits, numbers near
        zero, ``"text"`` where nothing else is asked of a text, and what a ``format`` says.

        Raises:
            UnanswerableError: the schema contradicts itself, or asks for more than the budget finds.
        """
        goal = (self._schema, _OBJECT) if as_object else (self._schema,)
        dead_end: tuple[str, str] | None = None
        for repeats in _REPEATS:
            search = self._search(repeats)
            try:
                for value in search.values(goal):
                    if search.checker.fits(value, self._schema):
                        return value
            except SpentError:
                raise UnanswerableError("", _SPENT) from None
            dead_end = search.dead_end
            if not search.cut:
                break
        raise UnanswerableError(*(dead_end or ("", "no value fits it")))

    def fits(self, value: Any) -> bool:
        """Tell whether a value fits. What would take too long to tell does not."""
        try:
            return self._search(1).checker.fits(value, self._schema)
        except (SpentError, UnanswerableError):
            return False

    def _search(self, repeats: int) -> Search:
        from flatfee.server.providers.simulation.schema.search import Search

        return Search(self._document, self._budget, repeats)


def instance(schema: Any) -> Any:
    """Return a small value that fits a JSON schema; see ``JsonSchema``."""
    return JsonSchema(schema, Budget()).instance()


def text_for(pattern: str, budget: Budget) -> str:
    """Return a short text that is all of what a regular expression describes.

    Raises:
        UnanswerableError: it cannot be read, or there is no such text.
    """
    from flatfee.server.providers.simulation.schema.texts import TextRules, Texts

    try:
        for text in Texts(budget).values(TextRules(patterns=[(f"^(?:{pattern})$", "")]), 1):
            return text
    except SpentError:
        raise UnanswerableError("", "no text was found in reasonable time; use a shorter pattern") from None
    raise UnanswerableError("", "no text is described by the pattern")
