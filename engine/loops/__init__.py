"""The loops of a running worker: each waits for one thing, and hands on what came in batches."""
