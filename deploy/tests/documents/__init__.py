"""Checks of the documents against the programs and files that they describe."""
