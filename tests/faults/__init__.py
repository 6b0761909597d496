"""The proof of relaying: a provider that fails in every way we know, and the verdict on each.

``upstream`` is the provider, on raw sockets; ``catalogue`` what it can do wrong; ``table`` what
then must come of it; ``callers`` and ``judge`` tell whether it did. The suite runs each row once
(``test_*.py`` here); ``make faults`` runs all of them with every caller and prints a scorecard.
"""
