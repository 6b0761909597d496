"""Benchmarks: what the gateway and the client cost, as ratios from one run on loopback.

``python -m benchmarks`` measures and prints; nothing here is part of the package, and no test
asserts on a speed.
"""
