"""Where a run's state lies and its inputs are read: ports, and a twin of each for every place."""
