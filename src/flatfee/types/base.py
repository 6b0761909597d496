"""Bases of the models that come from the wire. Nothing here knows a concrete shape.

Models are tolerant: fields a newer gateway or another provider adds are kept, and enumerations
are open. Answers know the response headers they came with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    PrivateAttr,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import CoreSchema, PydanticUseDefault, core_schema

from flatfee.receipt import Receipt
from flatfee.types.tries import Try
from flatfee.wire import Header

T = TypeVar("T")


class _NullIsDefault:
    """Takes ``null`` for "not told". Tried after the type itself, so that a good value pays next to nothing."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        null = core_schema.no_info_after_validator_function(_use_default, core_schema.none_schema())
        return core_schema.union_schema([(handler(source), "="), (null, "=null")], mode="left_to_right")


class _Whole:
    """Takes a number with a fraction for the whole number below."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        fraction = core_schema.no_info_after_validator_function(int, core_schema.float_schema(allow_inf_nan=False))
        return core_schema.union_schema([(handler(source), "="), (fraction, "=fraction")], mode="left_to_right")


def _use_default(_: None) -> Any:
    raise PydanticUseDefault


def _or_absent(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    try:
        return handler(value)
    except ValidationError:
        return None


OrDefault = Annotated[T, _NullIsDefault()]
"""For a field with a default: a provider that sends ``null`` there loses nobody a paid answer."""

OrAbsent = Annotated[T | None, WrapValidator(_or_absent)]
"""For what an answer can do without: of a shape nobody knows it is absent, and loses nobody a paid answer."""

Count = Annotated[int, _Whole()]
"""A whole number that some providers write with a fraction."""


class WireModel(BaseModel):
    """A tolerant model. Validation errors never show the input: it may be a completion."""

    model_config = ConfigDict(extra="allow", protected_namespaces=(), hide_input_in_errors=True, defer_build=True)

    def __str__(self) -> str:
        return repr(self)  # pydantic's leaves the name out

    def to_dict(
        self,
        *,
        mode: Literal["json", "python"] = "python",
        exclude_unset: bool = True,
        exclude_none: bool = False,
    ) -> dict[str, Any]:
        """Return the fields that came over the wire, unknown ones included."""
        return self.model_dump(mode=mode, exclude_unset=exclude_unset, exclude_none=exclude_none)

    def to_json(self, *, indent: int | None = 2, exclude_unset: bool = True, exclude_none: bool = False) -> str:
        """Return ``to_dict()`` as JSON text."""
        return self.model_dump_json(indent=indent, exclude_unset=exclude_unset, exclude_none=exclude_none)


@dataclass(slots=True)
class Origin:
    """Where an answer came from. Two answers with the same content are equal wherever they came from."""

    headers: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    receipt: Receipt | None = field(default=None, init=False, compare=False, repr=False)
    read: bool = field(default=False, init=False, compare=False, repr=False)
    tries: tuple[Try, ...] = field(default=(), compare=False, repr=False)

    def __reduce__(self) -> tuple[Callable[..., Origin], tuple[dict[str, str], tuple[Try, ...]]]:
        """Leave the HTTP library's header class behind; the receipt is read again when asked for."""
        return Origin, (dict(self.headers), self.tries)

    @property
    def request_id(self) -> str | None:
        """The gateway's id of the request."""
        return self.headers.get(Header.REQUEST_ID) or self.headers.get(Header.X_REQUEST_ID)

    def receipt_with(self, extra: Mapping[str, Any] | None) -> Receipt | None:
        """Return the receipt of headers and body; read once, when first asked for."""
        if not self.read:
            self.receipt, self.read = Receipt.from_answer(self.headers, extra), True
        return self.receipt


class Answer(WireModel):
    """The body of a whole response."""

    _origin: Origin = PrivateAttr(default_factory=Origin)

    @property
    def _request_id(self) -> str | None:
        """The gateway's id of the request, under the name openai-python gives it."""
        return self._origin.request_id

    @property
    def tries(self) -> tuple[Try, ...]:
        """Every request that was sent for this answer; empty if the first one brought it."""
        return self._origin.tries

    @property
    def retries_taken(self) -> int:
        """How often the request was repeated until this answer came."""
        return max(0, len(self._origin.tries) - 1)


class ListPage(Answer, Generic[T]):
    """One page of a list: ``{"object": "list", "data": […], "has_more": false}``."""

    object: OrDefault[str] = "list"
    data: list[T]
    has_more: OrDefault[bool] = False
