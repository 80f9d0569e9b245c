"""Readers of prompt pools: Dolly, FLAN and T0, a user's own table, the lab; and the task of each prompt.

`read` picks the reader and the files, `sources` opens them, one module per format says what the columns mean,
`frame` makes the raw_pool table, `labels` the task_labels. `lab` makes a pool by a procedure.
"""
