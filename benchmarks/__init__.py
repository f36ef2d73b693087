"""What Fanfold costs, measured beside what one would write by hand: `python -m benchmarks`."""
