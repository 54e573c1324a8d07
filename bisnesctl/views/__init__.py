"""The content of `status` and `describe`, put together from supervisord, files, the machine and the database."""
