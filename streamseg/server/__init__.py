"""Shows in a browser what the cameras see and what was counted, and tells other programs the same."""
