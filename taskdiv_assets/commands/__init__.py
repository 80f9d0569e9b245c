"""The commands of `taskdiv`, which `cli` combines, and the functions behind the commands.

`init`, `ui`, `doctor/` and the modules named `*_commands` define commands. `consoles`, `opening` and `terminal` print for them.
The other modules print nothing.
"""
