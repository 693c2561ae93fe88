"""A small AMQP 0-9-1 broker for one machine. It behaves as RabbitMQ 3.10 does."""
