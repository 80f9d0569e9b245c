"""Send lists of prompts to annotators, and import their answers.

Export: `lists` gathers the prompts of a list and its columns (`layout`). `exporting` decides which prompts are new, writes them
in one of the `formats` (`label_studio` has its own), and records them in the `ledger`; `delivery` makes both writes survive an
interruption.

Import: `answer_files` reads the returned file. `columns` says which columns hold what, `encodings` decodes the bytes, and
`answer_sheets` reads CSV files and workbooks. `judging` maps each id to a prompt of the pool and separates the rows that can be
stored, `problems` reports the others beside the user's file, and `importing` stores the answers.

`open_labels` counts which prompts still need an answer. Exports and imports are immutable files: nothing is appended or changed.
"""
