"""`check`: every station looked at by itself, each finding with its remedy. Nothing outside changes by it."""
