"""Keyed values on their way from map to reduce."""
