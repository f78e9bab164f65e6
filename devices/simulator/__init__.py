"""The virtual store of `storefront demo`: a shop's day, and devices that speak of it in real protocol bytes."""
