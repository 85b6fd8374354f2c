"""Teacher labels, written once and read at any speed."""
