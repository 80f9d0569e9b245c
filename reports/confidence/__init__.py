"""The page's sections on confidence: by task, against accuracy, and the effects of the source, the definition and sampling."""
