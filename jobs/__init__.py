"""Jobs as data, and every decision about them: synchronous, without I/O; the time and the chance are arguments."""
