"""Where the time goes: clocks, statistics and traces."""
