"""HTTP/1.1 as this server speaks it to others: connections that are pooled, proxies, TLS, and packed answers."""
