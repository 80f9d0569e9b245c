"""What the page says of confidence: by task, against being right, and by other sources, definitions and samples.

`numbers` computes, `figures` draws, `tables` and `sentences` word it, `parts` puts it in the order that it is read.
"""
