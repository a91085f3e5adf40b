"""``fastloader bench`` and ``fastloader tune``: how fast a loader is, and with which options."""
