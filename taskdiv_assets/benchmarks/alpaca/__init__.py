"""AlpacaEval's pure core: instructions, outputs, a judge that compares two of them, and win rates.

`rows` reads files; `instructions`, `outputs` and `annotation_file` define their content. `prompts` asks for a comparison,
`endpoint` sends one question, `judge` many, `verdict_parts` reads the answers. `win_rate` counts.
"""
