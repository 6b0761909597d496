"""The admin API under ``/admin/v1``: accounts, projects, keys, receipts. One file per subject; no rules of its own."""
