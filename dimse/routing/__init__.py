"""What happens when studies arrive: forwarding, priors and notifications, as durable jobs."""
