"""How far the gateway's estimates of prompts are from what real tokenisers count.

``corpus`` has the requests, ``counting`` asks the tokenisers, ``report`` compares and renders. ``make estimates``
runs all of it; the results are kept beside the code, so that a test needs no tokeniser.
"""
