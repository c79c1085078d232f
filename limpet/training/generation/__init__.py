"""Prompts, demonstrations, decoding and likelihoods of a base that writes."""
