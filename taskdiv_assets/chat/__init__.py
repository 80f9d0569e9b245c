"""A client for models behind an OpenAI-compatible address. The judge of AlpacaEval and the models that answer prompts use it."""
