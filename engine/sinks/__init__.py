"""Sinks: where outcomes are written, in batches. Only the broker sink acknowledges."""
