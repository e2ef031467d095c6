"""The commands of the command line, a file for each or for those of one group; ``tidegate.cli`` joins them.

A command reads its arguments, calls a job of ``tidegate.jobs`` and prints what it returns. What all share, options and
errors, is in ``session``; how results look on a terminal, in ``terminal``.
"""
