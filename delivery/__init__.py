"""Triggers: event source mappings, which bring the changes of a table's stream to functions."""
