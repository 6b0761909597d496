"""Commands about the test double."""
