"""Measurements of fastloader against what its users would take instead; none of them is a test."""
