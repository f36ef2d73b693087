"""The Lambda entry points of a job: one thin handler a file."""
