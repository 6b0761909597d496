"""Receipts and named errors out of other people's clients and frameworks. Nothing else of the package imports this.

``openai`` has openai-python's clients with our errors and receipts; ``httpx`` and ``httpx2`` have
transports for every framework that takes an HTTP client. Each needs the library that it is named after.
"""
