"""``ims-as ifc``: check, explain, try out and write initial filter criteria; `verify` alone asks an HSS."""
