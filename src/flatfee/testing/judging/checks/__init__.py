"""What is expected of a client, one function for each rule: from what was seen to what was wrong. Pure."""
