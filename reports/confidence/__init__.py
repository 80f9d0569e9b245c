"""The page's sections on confidence: by task, against accuracy, and the effects of its source, definition and sampling."""
