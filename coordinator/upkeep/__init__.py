"""What is done to runs besides running them."""
