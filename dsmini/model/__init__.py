"""What a DeepSeek model is, part by part; `transformer` puts the parts together."""
