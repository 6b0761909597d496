"""Who hears of a client's calls: receipts, fair-use, the log, spans. Nothing here decides or sends anything."""
