"""What leads from one revision of the database to the next: scripts of Alembic, one a file, the first is r0001."""
