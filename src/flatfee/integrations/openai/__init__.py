"""openai-python's clients for a flatfee gateway: errors that are both theirs and ours, and a receipt for every call.

    from flatfee.integrations.openai import OpenAI

    try:
        completion = OpenAI().chat.completions.create(model="auto", messages=messages)
        print(flatfee.Receipt.of(completion))
    except flatfee.FallbackExhausted as error:  # an openai.InternalServerError as well
        print(error.attempts)

Works with openai-python 1.109 and newer, of every major version since.
"""

from __future__ import annotations

from typing import Final

OLDEST: Final = (1, 109)

try:
    import openai
except ImportError as missing:
    raise ImportError(
        f"flatfee.integrations.openai needs openai-python; install openai>={OLDEST[0]}.{OLDEST[1]}."
    ) from missing


def _check(version: str) -> None:
    """Refuse a release that lacks what is built upon here, before something subtle goes wrong.

    Raises:
        ImportError: names the version and the cure.
    """
    found = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if found < OLDEST:
        raise ImportError(
            f"flatfee.integrations.openai does not work with openai-python {version}; "
            f"install openai>={OLDEST[0]}.{OLDEST[1]}."
        )


_check(openai.__version__)

from flatfee.integrations.openai.clients import AsyncOpenAI, OpenAI  # noqa: E402 - after the check of the version
from flatfee.integrations.openai.streams import AsyncReceiptStream, ReceiptStream  # noqa: E402 - likewise

__all__ = ["AsyncOpenAI", "AsyncReceiptStream", "OpenAI", "ReceiptStream"]
