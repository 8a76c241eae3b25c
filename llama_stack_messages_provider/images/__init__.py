"""Images for models that see none: another model of the stack describes them."""
