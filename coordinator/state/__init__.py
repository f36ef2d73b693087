"""What lies in the store: read, checked and changed."""
