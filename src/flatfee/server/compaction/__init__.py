"""Compaction of long conversations: old tool results trimmed by fixed rules. Pure: bytes in, bytes out."""
