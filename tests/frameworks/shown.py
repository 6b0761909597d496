"""What every example of a framework prints, by the way the gateway is."""

from __future__ import annotations

import re
from typing import Final

ANSWERED: Final = (
    r"^plain: Red, green and blue\.$",
    r"^(?:Served on|Routed to) the premium lane by big via north-premium",
    r"^streamed: .*Red, green and blue\.",
    r"^(?:tool|agent): The tool says: 21 degrees in Lisbon$",
    r"^4 requests in .*, 128 units charged, 999,872 left of fair-use$",
)
EXHAUSTED: Final = (
    r"^FallbackExhausted: tried north-premium \(rate_limited\).*north-economy \(rate_limited\)$",
    r"^1 request in .*, 1 refused",
)


def missing(shown: str, patterns: tuple[str, ...]) -> list[str]:
    """Return the patterns that nothing in ``shown`` fits."""
    return [pattern for pattern in patterns if not re.search(pattern, shown, re.MULTILINE)]
