"""Jobs as data, and every decision about them: synchronous, without I/O, given the time and the chance by the caller."""
