"""Another configuration for a gateway that runs: what changes, how it is brought in, and who may ask for it.

``source`` reads, ``changes`` compares, ``epochs`` tells when nobody can use a replaced provider any more,
``reloader`` does it in one process; ``crew`` and ``letters`` do it in several. The swap itself is the
gateway's (``Gateway.adopt``).
"""
