"""The results as a page of the documentation: ``python -m benchmarks.page``.

Reads the raw figures that the other commands keep in ``docs/benchmarks`` and writes
``docs/operations/benchmarks.md`` with its charts beside it. Measures nothing, and says nothing that is not in the
figures; what is in the way of a goal is for a person to say, in ``notes.md`` here.
"""
