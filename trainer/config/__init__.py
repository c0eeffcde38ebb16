"""Everything between the command line and a `Config`."""
