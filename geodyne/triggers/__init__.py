"""What triggers say, as values: event source mappings, their filter patterns, functions. No I/O."""
