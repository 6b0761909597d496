"""The services that ``kind`` of a provider may name. Data only: a new OpenAI-compatible service is a row.

A row holds what the service's own pages, SDK or issue tracker say. A quirk that names a field of the dialect is why
that field has its value; the others are for who configures it, or are read tolerantly wherever they come from
(``answers``, ``stages.failures``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from flatfee.server.providers.rows.hosts import HOSTS
from flatfee.server.providers.rows.own import OWN
from flatfee.server.providers.rows.row import Quirk, Row
from flatfee.server.providers.rows.vendors import VENDORS

__all__ = ["COMPATIBLE", "ROWS", "Quirk", "Row"]

COMPATIBLE: Final = "openai-compatible"
"""The row of what has none: any server that calls itself OpenAI-compatible."""

ROWS: Final[Mapping[str, Row]] = {**VENDORS, **HOSTS, **OWN, "simulated": Row(title="made-up answers", api="simulated")}
"""``kind`` → its row."""
