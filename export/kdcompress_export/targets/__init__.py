"""Targets: what a finished bundle is turned into for other runtimes. One module a target."""
