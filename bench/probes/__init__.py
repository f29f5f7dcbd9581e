"""The processes that measure: each measures one thing once, with a server of its own, and prints one line of JSON."""
