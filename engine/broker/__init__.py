"""Brokers: where jobs wait for a worker. One port, one adapter for each kind of server, and one in memory."""
