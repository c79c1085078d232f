"""The database of a home: engine, schema, migration, and the append-only log that covers its rows."""
