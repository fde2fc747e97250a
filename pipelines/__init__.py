"""Ready pipelines for `streamseg run --pipeline NAME`, one YAML file each."""
