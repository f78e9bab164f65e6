"""Who may do what at the page, and the record of it: PINs, accounts, sessions, the audit trail."""
