"""What may be known of a shopper in the shop: keyed identifiers, consent, visits and coupons."""
