"""What people look at: how things stand, and pages; read by commands and by the service. Nothing is changed here."""
