"""The HTTP/1.1 client, against real sockets."""
