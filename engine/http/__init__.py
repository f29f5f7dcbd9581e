"""The HTTP interface: the API and the measurements, over client, inspect and admin."""
