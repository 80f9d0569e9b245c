"""The page's sections on confidence: by task, against accuracy, and by other sources, definitions and samples.

`confidence_numbers` computes, `confidence_figures` draws, `confidence_tables` and `confidence_sentences` write, and
`confidence_parts` puts all of it in reading order.
"""
