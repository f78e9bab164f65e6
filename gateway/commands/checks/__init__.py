"""What `storefront doctor` looks at, one file a field. A check looks and says; it changes nothing."""
