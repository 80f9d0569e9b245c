"""All code that uses a language model: loading, confidence, embeddings, fine-tuning, and the lab's own base model."""
