"""Tables and statistics from run directories: reads files, trains nothing, imports no torch."""
