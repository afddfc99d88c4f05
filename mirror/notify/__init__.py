"""What operators are told by webhook, and the sign of life after a good pass."""
