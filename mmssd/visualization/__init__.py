"""Pictures and the run report."""
