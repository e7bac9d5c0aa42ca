"""The gate: whether a run is slower than those that were accepted, with a stated rate of false alarms."""
