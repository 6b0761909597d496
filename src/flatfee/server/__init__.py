"""The gateway: an OpenAI-compatible server that routes, meters and tells what it did.

``app`` builds it, ``routes`` lists its endpoints, ``pipeline`` walks one request. Needs the
``server`` extra.
"""
