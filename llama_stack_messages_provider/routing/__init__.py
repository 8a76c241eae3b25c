"""Which model, what its upstream can do, and by which route."""
