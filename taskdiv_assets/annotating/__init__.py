"""The way to the annotators and back.

`ledger` keeps what was sent out, `exporting` decides what goes out and writes it, `formats` and `label_studio` say how a
file looks. `answer_files` reads what came back, `judging` finds the rows that cannot be used, `importing` stores the rest.
An export is one immutable file and so is an import; nothing here is ever appended to or changed.
"""
