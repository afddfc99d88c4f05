"""Checks of everything that a pass needs, each by itself, each result with its remedy. Nothing is changed."""
