"""The gateway beside other gateways, all in one run: ``python -m benchmarks.peers``.

The raw figures are one JSON object, which pages are made from:

- ``about``: ``date`` (UTC), ``commit``, ``machine`` (label → value), ``tools`` (name → version), ``effort`` (rounds,
  seconds of a sample, …), ``quick``.
- ``targets``: one object for each: ``name``, ``title``, ``version``, ``did`` (``keys``, ``policy``, ``budget``,
  ``receipts``, ``durable``: what it did for each request; "no" where it did not), ``ours``.
- ``workloads``: ``name``, ``title``, ``phase``, ``connections``, ``prompt_bytes`` (0: the ordinary short prompt).
- ``skipped``: target → why it was not started.
- ``starts``: each start of each target: ``target``, ``phase``, ``seconds`` until it answered, ``idle_mb``, ``idle_cpu``
  (of one core, while nobody asked).
- ``refusals``: ``target``, ``workload``, ``said``: what a target cannot do, and what it answered.
- ``samples``: each round of each target: ``workload``, ``target``, ``round``, ``requests``, ``seconds``,
  ``per_second``, ``p50_ms``, ``p99_ms``, ``cpu_us`` for each answer, ``loaded_mb``, ``first_event_p50_ms`` and
  ``first_event_p99_ms`` (paced streams only), ``errors`` (kind → count; a sample with any counts for nothing).
- ``workers``: samples of the same shape, whose targets are arrangements of one worker and two.
- ``checked``: target of ours → answers that were read whole, with their receipts.
- ``failed``: what ended the run before its end, or null.
- ``goals``: ``name``, ``wanted``, ``measured`` (median of the rounds' ratios), ``lowest``, ``highest``, ``reached``.
"""
