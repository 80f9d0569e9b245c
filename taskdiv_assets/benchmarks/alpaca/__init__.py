"""The parts of AlpacaEval that need no store: instructions, outputs, a judge that compares two outputs, and win rates.

`rows` reads files. `instructions`, `outputs` and `annotation_file` define the content of files. `prompts` builds the question to
a judge, `endpoint` sends one question, `judge` sends many, and `verdict_parts` reads the replies. `win_rate` computes the win
rates.
"""
