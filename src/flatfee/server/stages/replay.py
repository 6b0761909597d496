"""A repeated idempotency key: the answer that was given before, or why it cannot be given again."""

from __future__ import annotations

from flatfee.receipt import Receipt
from flatfee.server.call import Call
from flatfee.server.faults import Fault
from flatfee.server.gateway import Gateway
from flatfee.server.peers import Held, ask_peer
from flatfee.server.store.records import Repeat
from flatfee.server.tell import receipt_headers
from flatfee.wire import ErrorCode, Header, ReceiptState


class Gone(Fault):
    """The key's request has ended, and its answer is kept no longer; body and headers tell that request's receipt."""

    def __init__(self, repeat: Repeat) -> None:
        receipt = Receipt.model_validate_json(repeat.receipt)
        was = "was cut off" if receipt.state == ReceiptState.ESTIMATED else "was answered"
        super().__init__(
            ErrorCode.IDEMPOTENCY_EXPIRED,
            f"The request {repeat.request_id} with this Idempotency-Key {was}, and its answer is kept no longer. "
            "What it was charged is in its receipt, beside this error. To ask again, send another key.",
        )
        self.receipt = receipt
        ids = {Header.REQUEST_ID: repeat.request_id, Header.X_REQUEST_ID: repeat.request_id}
        self.told = receipt_headers(receipt) | ids


async def replay(repeat: Repeat, call: Call, gateway: Gateway) -> None:
    """Give the answer of a request again, under its own request id.

    Raises:
        Fault: ``idempotency_expired``, or ``idempotency_in_flight`` in the moment before it is kept.
    """
    held = await _held(repeat, gateway)
    if held.answer is not None:
        await call.repeat(held.answer)
    elif held.running:
        raise Fault(
            ErrorCode.IDEMPOTENCY_IN_FLIGHT, "The request with this Idempotency-Key is just ending.", retry_after=1
        )
    else:
        raise Gone(repeat)


async def _held(repeat: Repeat, gateway: Gateway) -> Held:
    if repeat.holder == gateway.holder:
        return gateway.known(repeat.request_id)
    return await ask_peer(gateway.worker, repeat.holder, repeat.request_id)
