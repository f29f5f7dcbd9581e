"""What scripts beside the questions use of `measuring`, under the short names: servers, children, medians, machine."""

from measuring.children import child
from measuring.figures import median, ratio, spread
from measuring.machine import machine
from measuring.servers import FSYNC, cpu_s, server, server_binary, server_version

__all__ = [
    "FSYNC", "child", "cpu_s", "machine", "median", "ratio", "server", "server_binary", "server_version", "spread",
]  # fmt: skip
