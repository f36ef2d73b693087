"""The steps of a run, each named by its verb."""
