"""Readers of prompt pools (Dolly, FLAN and T0, a user's own table, the lab) and the tables made from them.

`read` chooses the reader and the files. `sources` opens the files; each file format has a module that parses it. `frame`
makes the raw_pool table. `labels` makes the task_labels table, which contains the task of each prompt.
"""
