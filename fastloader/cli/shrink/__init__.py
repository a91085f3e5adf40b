"""``fastloader shrink``: a second table with smaller images."""
