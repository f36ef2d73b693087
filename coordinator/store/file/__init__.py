"""The twins on this machine's disk."""
