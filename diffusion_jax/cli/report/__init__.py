"""One HTML page about a work directory: reading its files, charts and layout."""
