"""The installed version, read once from the package's own metadata.

It is "0" in a tree that was never installed.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("headrace")
except PackageNotFoundError:
    VERSION = "0"
