"""Messages that another model gives, where the first refuses, is down, or has no room for the request."""
