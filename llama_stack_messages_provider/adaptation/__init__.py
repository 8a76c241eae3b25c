"""What an upstream refused, and what is changed."""
