"""One module a format: its declaration, how its objects are cut, its reader and its encoder."""
