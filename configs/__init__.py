"""Models and trainings for `streamseg train CONFIG`, one YAML file each."""
