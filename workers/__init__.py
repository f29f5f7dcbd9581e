"""Workers: the pool of slots, and the ways to run a handler in one. It knows neither queues nor servers."""
