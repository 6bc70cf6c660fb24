"""One torch surface a file. The only place, beside the allocator's sampler, that touches torch."""
