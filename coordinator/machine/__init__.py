"""A whole run on one machine: worker processes, and the queue that feeds them."""
