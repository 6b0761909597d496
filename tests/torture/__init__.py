"""The proof of the ledger: scenarios that try to oversell, lose or double a request's money.

Each scenario is a function that returns a ``Result``. The suite runs a short version of each
(``test_*.py`` here); ``make torture`` runs all of them at length and prints one table. What the
gateway promises, and which scenario holds which promise, is told in the operator's guide.
"""
