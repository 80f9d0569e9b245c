"""The page's sections on confidence: by task, against accuracy, and under other sources, definitions and samples.

`confidence_numbers` computes the numbers. `confidence_figures`, `confidence_tables` and `confidence_sentences` show them.
`confidence_parts` assembles the sections.
"""
