"""The proof of relaying: a provider that fails in every way we know, and the verdict on each.

``upstream`` is the provider, on raw sockets; ``catalogue`` what it can do wrong; ``table`` what
then must come of it; ``callers`` and ``judge`` tell whether it did. The suite runs each row once
(``test_*.py`` here); ``make faults`` runs all of them with every caller and prints a scorecard.

Three scenarios are of many requests: ``flapping`` (``flapping_live``) of routes that go down and come
back, ``soak`` of everything at once and what is left of it, ``slow_readers`` of callers that stop reading.
"""
