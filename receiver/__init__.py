"""How calls get in, out and looked at: signature, store, HTTP, command line, browsing."""
