"""What the client did, and whether it should have."""
