"""HTTP/1.1 to a provider, as much of it as the gateway needs: one request at a time on a kept connection."""
