"""Everything the faulty provider can do, by name. What should come of each is told in ``table``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from tests.faults.catalogue.answers import ANSWERS
from tests.faults.catalogue.healthy import HEALTHY
from tests.faults.catalogue.midway import MIDWAY
from tests.faults.catalogue.refusals import REFUSALS
from tests.faults.catalogue.wire import WIRE
from tests.faults.speech import error, sized
from tests.faults.steps import Script, Seen, Step

CATALOGUE: Final[Mapping[str, Script]] = {**HEALTHY, **REFUSALS, **ANSWERS, **MIDWAY, **WIRE}


def unknown_model(seen: Seen) -> Iterable[Step]:
    """Answer as a real provider does; the test that asked meant another name."""
    return [sized(error("model_not_found", f"The catalogue has no {seen.model!r}."), 404)]
