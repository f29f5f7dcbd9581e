"""The HTTP interface: the API, the dashboard and the measurements, over client, inspect and admin."""
