"""The parts of AlpacaEval that need no store, such as instructions, outputs, a judge that compares two outputs, and win rates."""
