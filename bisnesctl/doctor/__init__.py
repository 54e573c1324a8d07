"""`bisnesctl doctor`: the conditions of a start and of a deploy, each a function in the table of `table.py`."""
