"""Other engines beside headrace: the same jobs, server, transport and fsync mode for each.

Run from the folder above, as `python -m peers.run`: names such as celery.py must not stand on the path themselves, or a
peer's file would hide the package that it measures.
"""
