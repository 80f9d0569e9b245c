"""The page's sections on confidence: by task, against accuracy, and under other sources, definitions and samples."""
