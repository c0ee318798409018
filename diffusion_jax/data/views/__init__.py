"""Views: which part of an image a run models, and which part it is given. One plug-in per file."""
