"""Real servers for the live tests, each of which can be made to fail while a test runs."""
