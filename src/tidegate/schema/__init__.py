"""What a recipe may say: the keys of its sections by task, with types and ranges, and YAML that knows its lines.

Named for what it is, a schema, since ``tidegate.recipes`` holds the recipes themselves. ``tidegate.config`` reads a
recipe by it.
"""
