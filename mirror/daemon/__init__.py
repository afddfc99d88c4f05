"""The daemon: passes on a schedule, signals, health, metrics and the status page. Only `run_once` works for it."""
