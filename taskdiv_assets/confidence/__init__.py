"""What `confidence` means, how little of a pool has to be scored to know it by task, and what that does to an allocation.

Pure numpy over the columns of the confidence table: no torch, no Dagster, no files. Computing those columns is
`language_model.confidence`.
"""
