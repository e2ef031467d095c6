"""The recipes that ship: one YAML file a job, each opening with its own command."""
