"""Reads the log files of all processes: their formats, merged by time, filtered, followed. Sets levels of logging.

The files are read directly and not through supervisord, which loses lines at high rates and may not run.
"""
