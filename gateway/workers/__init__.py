"""What runs beside the sources and joins rooms that do not know one another: one worker, or one desk, a module."""
