"""The hybrid causal language model as a normal Hugging Face model."""
