"""Mixed traffic for half an hour, with what the server holds sampled: it has to stay flat after its warm-up."""
