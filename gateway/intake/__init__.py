"""From a device's reading to an accepted event: readings, normaliser, presence and the inlet."""
