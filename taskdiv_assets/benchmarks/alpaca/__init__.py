"""The modules of AlpacaEval that need no store, such as instructions, outputs, a judge that compares outputs, and win rates."""
