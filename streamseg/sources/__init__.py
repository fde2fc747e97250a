"""Where frames come from: one component a file, each a `Source`."""
