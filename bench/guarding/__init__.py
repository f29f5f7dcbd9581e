"""The parts of bench/guard.py: fixed runs, what counts them, and the baseline that they are compared with."""
