"""Storefront Gateway: the core, and the only place that wires devices, vision and sync together."""
