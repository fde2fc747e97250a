"""The clip that `streamseg run sample:` works on."""
