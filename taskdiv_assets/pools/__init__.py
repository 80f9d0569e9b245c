"""Readers of prompt pools (Dolly, FLAN and T0, a user's own table, the lab), and makers of the tables raw_pool and task_labels.

`read` chooses the reader and the files. `sources` opens the files. `frame` makes raw_pool, `labels` makes task_labels.
"""
