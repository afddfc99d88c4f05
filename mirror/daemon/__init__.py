"""The daemon: passes on a schedule, signals, health, metrics and the status page. Only `reconcile` works for it."""
