"""The SMART authorization server: clients, launches, codes, tokens, and how apps find them."""
