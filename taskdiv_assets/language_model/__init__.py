"""Code that runs a language model, such as loading, confidence, embeddings, fine-tuning, and the lab's own base model."""
