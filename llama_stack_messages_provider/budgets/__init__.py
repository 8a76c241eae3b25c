"""How much each user may ask of each model, for all replicas together."""
