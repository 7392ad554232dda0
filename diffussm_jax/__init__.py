"""DiffuSSM: diffusion models without attention (arXiv 2311.18257)."""
