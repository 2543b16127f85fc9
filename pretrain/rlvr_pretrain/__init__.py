"""Make base models: tokenizer and supervised fine-tuning; knows nothing of rewards or verifiers."""
