"""One file a station: a function of ports, or of what they gave, to findings. None raises or changes anything."""
