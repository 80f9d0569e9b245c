"""Lists of prompts for annotators, and the import of the answers.

Export: `lists` gathers the prompts, and `layout` defines the columns. `exporting` selects the prompts that were not sent before
and records them in the `ledger`. `formats` and `label_studio` write the file. `delivery` makes both writes safe to interrupt.

Import: `answer_files` reads a returned file with the help of `columns`, `encodings` and `answer_sheets`. `judging` finds the
prompt of each answer and rejects unusable rows. `problems` writes these rows to a report, and `importing` stores the others.

`open_labels` finds the prompts that still need an answer. A stored export or import is one file that never changes.
"""
