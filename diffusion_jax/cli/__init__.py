"""The command line: its modes, its report, and the pictures users bring."""
