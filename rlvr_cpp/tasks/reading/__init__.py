"""The parts of reading an answer: quotations, blocks, what the prompt asks for, what is put together."""
