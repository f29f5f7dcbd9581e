"""The demo: the engine's main job on real input, every source file of Python's own library indexed by one job."""
