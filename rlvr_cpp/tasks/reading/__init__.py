"""The parts of reading an answer: quotations, blocks, what is asked for, what is put together; and their version."""
