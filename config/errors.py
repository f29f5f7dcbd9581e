"""The root of every error that headrace raises on purpose, and the error of a wrong configuration.

Each message says what happened, whose fault it is and what to do next. Each class carries the exit code with which the
command line ends when it meets it. The errors of jobs are in headrace.jobs.errors; this file stands lower because
reading the configuration may fail before there is any job.
"""

from typing import ClassVar


class HeadraceError(Exception):
    """Root of all errors raised by headrace; catching it catches them all."""

    #: 1: the job failed; 2: usage or configuration; 3: broker unavailable; 4: waited too long.
    exit_code: ClassVar[int] = 1


class ConfigError(HeadraceError):
    """The configuration or the program's own declarations are wrong: yours to mend, before anything runs."""

    exit_code = 2
