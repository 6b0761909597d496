"""What a test sets: accounts and keys, workflow slots, routes, outages of the gateway itself."""
