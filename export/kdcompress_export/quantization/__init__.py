"""float32 graph -> smaller graph: one file a scheme, and the search that measures and decides."""
