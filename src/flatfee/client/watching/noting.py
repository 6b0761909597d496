"""Hands every receipt that a client gets to whoever collects them: runs, ``on_receipt=``, the sight of fair-use.

A receipt is read only if one of them wants it now.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flatfee.client.errand import Errand
from flatfee.client.raw import RawResponse
from flatfee.client.stream import StreamState
from flatfee.client.watching.callbacks import tell
from flatfee.client.watching.fair_use import FairUseSight
from flatfee.collecting import Run, active
from flatfee.errors import APIError
from flatfee.receipt import Receipt


class ReceiptListener:
    """Listens for receipts. Failed tries are noted in runs, too: the gateway has a receipt of each."""

    def __init__(self, fair_use: FairUseSight, on_receipt: Callable[[Receipt], object] | None = None) -> None:
        self._fair_use = fair_use
        self._on_receipt = on_receipt

    def began(self, errand: Errand[Any]) -> None:
        """Nothing is known yet."""

    def tried(self, errand: Errand[Any], error: APIError) -> None:
        """Note what a failed try came to."""
        run = active()
        if run is not None and errand.call.metered and error.receipt is not None:
            run.note(error.receipt)

    def answered(self, errand: Errand[Any], answer: object, headers: Mapping[str, str]) -> None:
        """Note the receipt of a whole answer."""
        if not errand.call.metered:
            return
        if type(answer) is RawResponse:
            answer = answer.parse()
        run = active()
        if run is not None or self._on_receipt is not None:
            self._tell(Receipt.of(answer), run)
        else:  # ``model_extra`` is a property, and this is every call
            extra = getattr(answer, "__pydantic_extra__", None)
            self._fair_use.saw((headers, extra.get("flatfee") if extra else None))

    def handed(self, errand: Errand[Any], headers: Mapping[str, str]) -> None:
        """Note what the headers tell of an answer that the caller reads."""
        if errand.call.metered:
            self._tell(Receipt.from_headers(headers), active())

    def failed(self, errand: Errand[Any], error: BaseException) -> None:
        """Tell the receipt of a failure; its run has heard of it as of a failed try."""
        if errand.call.metered and isinstance(error, APIError):
            self._tell(error.receipt, None)

    def opened(self, errand: Errand[Any], state: StreamState) -> None:
        """Note a receipt in flight. The run is remembered: a stream may be read in another context, or later."""
        run = active()
        if run is None:
            self._fair_use.saw((state.headers, None))
            return
        errand.notes[self] = run
        receipt = state.receipt
        if receipt is not None:
            self._fair_use.saw(receipt)
            run.note(receipt)

    def ended(self, errand: Errand[Any], state: StreamState) -> None:
        """Note what a stream came to."""
        run = errand.notes.get(self)
        if run is not None or self._on_receipt is not None:
            self._tell(state.receipt, run)
        else:
            self._fair_use.saw((state.headers, (state.body or {}).get("flatfee")))

    def _tell(self, receipt: Receipt | None, run: Run | None) -> None:
        if receipt is None:
            return
        self._fair_use.saw(receipt)
        if run is not None:
            run.note(receipt)
        if self._on_receipt is not None:
            tell("on_receipt", self._on_receipt, receipt)
