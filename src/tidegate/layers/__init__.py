"""Modules over the kernels, on ragged batches."""
