"""The gateway's own measures, which no peer is needed for: memory, start-up, CPU by stage, added time, a large ledger.

``python -m benchmarks.own`` takes them and keeps the raw figures. Throughput beside others is measured by
``python -m benchmarks``.
"""
