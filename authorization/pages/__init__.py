"""What people see of the authorization server: sign-in steps, pickers, consent, registries."""
