"""The dialogues that sandbox calls are made of, one module per invented company."""
