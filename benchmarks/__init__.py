"""Measurements of fastloader against what its users would use instead. None of them is a test."""
