"""Runners, one file for each way to run a handler: as a coroutine, in a thread, in a process."""
