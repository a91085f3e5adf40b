"""What the batches of a loader hold: their columns in a slot, and their structure."""
