"""The way to the annotators and back.

Out: `lists` gathers prompts with the columns of a `layout`, `exporting` writes them and notes them in the `ledger`, `delivery`
does so atomically, `formats` and `label_studio` say how a file looks.

Back: `answer_files` reads what came back (`columns` names what is read, `encodings`, `sheets` and `workbooks` open it),
`resolving` finds the prompt of each id, `judging` the rows that cannot be used, `problems` reports them, `importing` stores
the rest. `said` puts both ways into words.

An export is one immutable file and so is an import; nothing here is ever appended to or changed.
"""
