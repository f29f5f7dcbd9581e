"""What a worker can be seen doing: statistics, metrics and traces. It watches, and never decides."""
