"""What the command line offers, one file a stage of the road; ``kdcompress.cli`` puts them together."""
