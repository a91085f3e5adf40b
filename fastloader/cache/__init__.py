"""Decoded rows in a file, kept for later epochs and runs."""
