"""``fastloader ingest``: a folder of images becomes a table."""
