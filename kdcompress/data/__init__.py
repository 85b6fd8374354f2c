"""What a batch is, and how manifests become batches. Only readers know what kind of input an item has."""
