"""``ims-as ifc``: check, explain, try out and write initial filter criteria, without any network."""
