"""Commands of `taskdiv`, one module each: thin over functions that decide and know no terminal."""
