"""The durable journal: three numbered streams of events in one SQLite file."""
