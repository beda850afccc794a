"""DeepSeek's special tokens as text, in their own spelling, bars and all (DeepSeek-V3's tokenizer.json; V3.1's card).

Apart from the tokenizers, which need PyTorch: a chat template is work on text, and runs without it.
"""

BOS, EOS, PAD = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"  # ids 0, 1, 2, as in DeepSeek's
USER, ASSISTANT = "<｜User｜>", "<｜Assistant｜>"
THINK, END_THINK = "<think>", "</think>"
TOOLS = ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>",
         "<｜tool▁sep｜>", "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>")  # fmt: skip
SPECIAL = (BOS, EOS, PAD, USER, ASSISTANT, THINK, END_THINK, *TOOLS)
