"""Providers: connections to upstream APIs, and the registry that makes them from settings."""
