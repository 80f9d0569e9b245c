"""Readers of prompt pools (Dolly, FLAN and T0, a user's own table, the lab) and the task of each prompt.

`read` picks the reader and the files, `sources` opens them, one module per format parses it, `frame` makes the raw_pool
table and `labels` the task_labels table.
"""
