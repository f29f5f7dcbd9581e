"""Clients of the HTTP API: `Client` and `AsyncClient`, over one policy of what is sent, retried and raised."""
