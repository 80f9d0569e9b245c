"""Commands of `taskdiv` that have a module of their own."""
