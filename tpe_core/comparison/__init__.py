"""Two models of one tokenizer compared exactly, position by position, from the hidden states of one of them."""
