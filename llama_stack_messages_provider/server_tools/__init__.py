"""The tools that the server runs, and the loop that runs them."""
