"""Images of text lines: what changes them, and what makes them from nothing."""
