"""The command line: one file per group of commands, everything heavy imported inside them."""
