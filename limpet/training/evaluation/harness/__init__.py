"""Tasks of the language-model evaluation harness (lm-eval), from local files, asked of a decoder and its versions."""
