"""What a script is: rules that match a request, and what they answer."""
