"""AlpacaEval's pure core: instructions, outputs, a judge that compares two of them, and win rates.

`rows` reads files, `instructions`, `outputs` and `annotations` say what stands in them. `prompts` asks for a comparison,
`endpoint` sends one question, `judge` many, `verdicts` reads the answers. `win_rate` counts. Models that write outputs,
the store and Dagster are not here.
"""
