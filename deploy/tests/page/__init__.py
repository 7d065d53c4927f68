"""Checks of the live page with a browser."""
