"""The command line: its modes, its report, and the images that users supply."""
