"""What is known of each engine."""
