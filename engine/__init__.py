"""The engine: everything that does I/O, from the command line down to the connections with the server.

Imports go down only: cli, http, runtime, loops, sinks, broker, redisio; `make layers` holds the whole order.
"""
