"""The Alembic environment of a home's database, shipped in the package."""
