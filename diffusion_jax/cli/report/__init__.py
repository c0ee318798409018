"""One HTML page about a work directory: what is in it is read, drawn and laid out here."""
