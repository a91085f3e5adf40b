"""Which rows make up which batch: pure functions of the key column, without input or output."""
