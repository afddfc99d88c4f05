"""What `status`, `wait` and the history page show; read by commands and by the daemon. Nothing is changed."""
