"""Labels as the files that other tools read, and back where people correct them there; one format a file."""
