"""The commands of `taskdiv`, which `cli` combines, and the functions that they call.

`init`, `ui` and the modules named `*_commands` define commands; `cli` defines the others. `consoles`, `opening`, `terminal` and
`doctor/` print for them. The other modules print nothing, except `early` on Ctrl-C.
"""
