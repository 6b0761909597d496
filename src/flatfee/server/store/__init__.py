"""The ledger: who may spend what, what was spent, and the receipts. One protocol, several stores."""
