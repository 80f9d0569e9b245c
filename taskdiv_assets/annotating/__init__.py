"""Lists of prompts for annotators, and the import of the answers.

`lists` gathers the prompts that need an answer and were not sent before. `exporting` writes them to a file, and records them in
the `ledger`. `answer_files` reads a returned file, `judging` rejects unusable rows, and `importing` stores the other answers.
`open_labels` finds the prompts that still need an answer. A stored export or import is one file that never changes.
"""
