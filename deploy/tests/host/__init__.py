"""Checks of the files that the public host reads: workflows, forms, and versions stated twice."""
