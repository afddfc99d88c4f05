"""What operators get by webhook, and the sign of life after a good pass."""
