"""Model cards and data cards in the format of the Hugging Face hub. They describe tuned models and selections of prompts.

`facts` defines the facts of a card, `rendering` turns them into Markdown, and `stored_cards` reads the facts from the store and
writes the cards. Only `graph.markdown` turns unchecked text into Markdown.
"""
